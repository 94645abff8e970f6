//! Checks JSON against the part of JSON Schema that the project's own schemas use. A keyword that it does not know fails the
//! check, so that no schema says more than is tested.

use serde_json::Value;

/// What is wrong with `value`, if anything is.
pub(crate) fn violation(schema: &Value, value: &Value) -> Option<String> {
    Checker { root: schema }.check(schema, value).err()
}

struct Checker<'s> {
    root: &'s Value,
}

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = schema.as_object().ok_or("a schema is an object")?;
        for (keyword, operand) in schema {
            let good = match keyword.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" | "required" | "additionalProperties" => true,
                "$ref" => {
                    let pointer = operand.as_str().and_then(|name| name.strip_prefix('#')).ok_or("a local $ref")?;
                    self.check(self.root.pointer(pointer).ok_or("a $ref that leads somewhere")?, value)?;
                    true
                }
                "oneOf" => {
                    let outcomes: Vec<_> =
                        operand.as_array().unwrap().iter().map(|schema| self.check(schema, value)).collect();
                    match outcomes.iter().filter(|outcome| outcome.is_ok()).count() {
                        1 => true,
                        count => return Err(format!("{count} forms fit: {outcomes:?}")),
                    }
                }
                "type" => match operand {
                    Value::Array(names) => names.iter().any(|name| is_of(value, name)),
                    name => is_of(value, name),
                },
                "const" => operand == value,
                "enum" => operand.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= operand.as_f64().unwrap()),
                "properties" => {
                    self.members(schema, operand, value)?;
                    true
                }
                other => return Err(format!("the keyword {other} is not known to the test")),
            };
            if !good {
                return Err(format!("{keyword}: {value} is not {operand}"));
            }
        }
        Ok(())
    }

    fn members(&self, schema: &serde_json::Map<String, Value>, known: &Value, value: &Value) -> Result<(), String> {
        let members = value.as_object().ok_or("an object is needed")?;
        for (name, member) in members {
            let named = |error| format!("{name}: {error}");
            match (known.get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, member).map_err(named)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{name} is not a member")),
                (None, Some(Value::Bool(true)) | None) => {}
                (None, Some(schema)) => self.check(schema, member).map_err(named)?,
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        match required.filter_map(Value::as_str).find(|name| !members.contains_key(*name)) {
            Some(missing) => Err(format!("{missing} is missing")),
            None => Ok(()),
        }
    }
}

fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is not a type that the test knows"),
    }
}
