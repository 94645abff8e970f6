//! One source file, rewritten so that it holds all its mutants. The environment variable `MUTANT` switches one on.
//!
//! An expression becomes a choice between its forms: `a < b` becomes `(if crate::mutants::on(7) { (a <= b) } else { (a < b) })`.
//! Only one mutant is on at a time, so the other forms are plain source text. Code that the compiler runs cannot be
//! switched: constants, `const fn`, lengths of arrays, numbers that are arguments of a type. Nor can `&&` between `let`s, nor the value of a function that
//! returns an opaque type.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::{LineColumn, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, BinOp, Block, Expr, Pat, ReturnType, Signature};

use crate::list::{Genre, Mutant};

/// A part of the rewritten text that belongs to these mutants: an error of the compiler there makes them not viable.
pub struct Piece {
    pub range: Range<usize>,
    pub mutants: Vec<usize>,
}

pub struct Rewritten {
    pub text: String,
    pub pieces: Vec<Piece>,
}

/// Rewrites `source`. `mutants` are those of this file, with their numbers.
pub fn rewrite(source: &str, mutants: &[(usize, &Mutant)]) -> syn::Result<Rewritten> {
    let mut finder = Finder { wanted: HashMap::new(), edits: Vec::new() };
    for (number, mutant) in mutants {
        finder.wanted.entry((mutant.genre, mutant.start())).or_default().push((*number, mutant.replacement.clone()));
    }
    finder.visit_file(&syn::parse_file(source)?);
    let mut edits = finder.edits;
    // An outer expression comes before the inner ones that begin with it, and what is inserted comes before both.
    edits.sort_by_key(|edit| (edit.range.start, !edit.range.is_empty(), usize::MAX - edit.range.end));
    let mut writer = Writer { source, edits: &edits, text: String::new(), pieces: Vec::new() };
    writer.copy(0..source.len());
    Ok(Rewritten { text: writer.text, pieces: writer.pieces })
}

/// A change of the text: an insertion if the range is empty, otherwise a choice between forms of an expression.
struct Edit {
    range: Range<usize>,
    forms: Vec<Form>,
}

/// What one mutant writes: the expression with a part of it replaced.
struct Form {
    mutant: usize,
    replaced: Range<usize>,
    with: String,
}

/// Finds the places of the wanted mutants.
struct Finder {
    wanted: HashMap<(Genre, LineColumn), Vec<(usize, String)>>,
    edits: Vec<Edit>,
}

impl Finder {
    fn take(&mut self, genre: Genre, place: Span) -> Vec<(usize, String)> {
        self.wanted.remove(&(genre, place.start())).unwrap_or_default()
    }

    /// Mutants that write something else for `part` of the expression at `range`.
    fn choice(&mut self, genre: Genre, place: Span, range: Range<usize>, part: Range<usize>) {
        let form = |(mutant, with)| Form { mutant, replaced: part.clone(), with };
        let forms: Vec<_> = self.take(genre, place).into_iter().map(form).collect();
        if !forms.is_empty() {
            self.edits.push(Edit { range, forms });
        }
    }

    fn insert(&mut self, at: usize, mutant: usize, with: String) {
        self.edits.push(Edit { range: at..at, forms: vec![Form { mutant, replaced: at..at, with }] });
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        if signature.constness.is_some() {
            return;
        }
        if let Some(first) = body.stmts.first()
            && !is_opaque(&signature.output)
        {
            for (mutant, value) in self.take(Genre::FnValue, first.span()) {
                let text = format!("if crate::mutants::on({mutant}) {{ return {value}; }} ");
                self.insert(first.span().byte_range().start, mutant, text);
            }
        }
        self.visit_block(body);
    }

    /// A deleted arm is one whose guard never holds.
    fn deletion(&mut self, arm: &Arm) {
        for (mutant, _) in self.take(Genre::MatchArm, arm.span()) {
            match guard_of(arm).map(|guard| guard.span().byte_range()) {
                None => {
                    self.insert(arm.pat.span().byte_range().end, mutant, format!(" if !crate::mutants::on({mutant})"))
                }
                Some(guard) => {
                    self.insert(guard.start, mutant, format!("!crate::mutants::on({mutant}) && ("));
                    self.insert(guard.end, mutant, ")".to_owned());
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_type_array(&mut self, _: &'ast syn::TypeArray) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !(matches!(binary.op, BinOp::And(_)) && (has_let(&binary.left) || has_let(&binary.right))) {
            let operator = binary.op.span();
            self.choice(Genre::BinaryOperator, operator, binary.span().byte_range(), operator.byte_range());
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let operator = unary.op.span();
        self.choice(Genre::UnaryOperator, operator, unary.span().byte_range(), operator.byte_range());
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        for pair in expression.fields.pairs() {
            let field = pair.value().span();
            let with_comma = pair.into_token_stream().span().byte_range();
            self.choice(Genre::StructField, field, expression.span().byte_range(), with_comma);
        }
        visit::visit_expr_struct(self, expression);
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        // Without an arm for all the rest, each arm is needed.
        if expression.arms.iter().any(|arm| arm.guard.is_none() && matches!(arm.pat, Pat::Wild(_))) {
            expression.arms.iter().for_each(|arm| self.deletion(arm));
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if let Some(guard) = guard_of(arm) {
            let range = guard.span().byte_range();
            self.choice(Genre::MatchArmGuard, guard.span(), range.clone(), range);
        }
        visit::visit_arm(self, arm);
    }
}

/// The arm's guard, unless it holds a `let`.
fn guard_of(arm: &Arm) -> Option<&Expr> {
    arm.guard.as_ref().map(|(_, guard)| guard.as_ref()).filter(|guard| !has_let(guard))
}

fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

fn is_opaque(output: &ReturnType) -> bool {
    output.to_token_stream().to_string().contains("impl ")
}

struct Writer<'a> {
    source: &'a str,
    /// Not yet written.
    edits: &'a [Edit],
    text: String,
    pieces: Vec<Piece>,
}

impl Writer<'_> {
    /// Copies a part of the source with the edits in it.
    fn copy(&mut self, range: Range<usize>) {
        let mut from = range.start;
        while let [edit, rest @ ..] = self.edits
            && edit.range.start < range.end
        {
            self.edits = rest;
            self.text += &self.source[from..edit.range.start];
            from = edit.range.end;
            self.edit(edit);
        }
        self.text += &self.source[from..range.end];
    }

    fn edit(&mut self, edit: &Edit) {
        let start = self.text.len();
        let mutants = edit.forms.iter().map(|form| form.mutant).collect();
        if edit.range.is_empty() {
            self.text.extend(edit.forms.iter().map(|form| form.with.as_str()));
        } else {
            self.text.push('(');
            for form in &edit.forms {
                self.form(form, &edit.range);
            }
            self.text += "{ (";
            self.copy(edit.range.clone());
            self.text += ") })";
        }
        self.pieces.push(Piece { range: start..self.text.len(), mutants });
    }

    fn form(&mut self, form: &Form, expression: &Range<usize>) {
        self.text += &format!("if crate::mutants::on({}) {{ (", form.mutant);
        let start = self.text.len();
        self.text += &self.source[expression.start..form.replaced.start];
        self.text += &form.with;
        self.text += &self.source[form.replaced.end..expression.end];
        self.pieces.push(Piece { range: start..self.text.len(), mutants: vec![form.mutant] });
        self.text += ") } else ";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(source: &str, genre: &str, place: &str, replacement: &str) -> Mutant {
        let before = &source[..source.find(place).unwrap()];
        let start = serde_json::json!({
            "line": before.matches('\n').count() + 1,
            "column": before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1,
        });
        serde_json::from_value(serde_json::json!({
            "file": "src/a.rs", "name": "", "genre": genre, "replacement": replacement, "span": { "start": start },
        }))
        .unwrap()
    }

    /// `source` with one mutant, which begins at `place` and writes `replacement`.
    fn rewritten(source: &str, genre: &str, place: &str, replacement: &str) -> String {
        rewrite(source, &[(7, &mutant(source, genre, place, replacement))]).unwrap().text
    }

    #[test]
    fn each_kind_of_mutant_is_a_choice() {
        for (source, genre, place, replacement, expected) in [
            (
                "fn f() -> bool { 1 < 2 }",
                "BinaryOperator",
                "<",
                ">",
                "(if crate::mutants::on(7) { (1 > 2) } else { (1 < 2) })",
            ),
            (
                "fn f() -> bool { !g() }",
                "UnaryOperator",
                "!",
                "",
                "(if crate::mutants::on(7) { (g()) } else { (!g()) })",
            ),
            ("fn f() -> u8 { g(); 1 }", "FnValue", "g()", "0", "if crate::mutants::on(7) { return 0; } g(); 1"),
            ("impl A {\n    fn f() -> u8 { 1 }\n}", "FnValue", "1", "0", "if crate::mutants::on(7) { return 0; } 1"),
            ("fn f() { match a { 1 => b(), _ => {} } }", "MatchArm", "1", "", "1 if !crate::mutants::on(7) => b()"),
            (
                "fn f() { match a { 1 if c => b(), _ => {} } }",
                "MatchArm",
                "1",
                "",
                "1 if !crate::mutants::on(7) && (c) => b()",
            ),
            (
                "fn f() { match a { x if c => b(), _ => {} } }",
                "MatchArmGuard",
                "c =>",
                "true",
                "x if (if crate::mutants::on(7) { (true) } else { (c) }) => b()",
            ),
            (
                "fn f() -> A { A { b: 1, ..Default::default() } }",
                "StructField",
                "b: 1",
                "",
                "(if crate::mutants::on(7) { (A {  ..Default::default() }) } else { (A { b: 1, ..Default::default() }) })",
            ),
        ] {
            let text = rewritten(source, genre, place, replacement);
            assert!(text.contains(expected), "{source}: {text}");
        }
    }

    #[test]
    fn what_the_compiler_runs_stays_as_it_is() {
        for (source, genre, place, replacement) in [
            ("const A: u8 = 1 + 2;", "BinaryOperator", "+", "-"),
            ("const fn f() -> u8 { 1 + 2 }", "BinaryOperator", "+", "-"),
            ("fn f() { g([0; 1 + 2]) }", "BinaryOperator", "+", "-"),
            ("fn f() -> impl Iterator<Item = u8> { g() }", "FnValue", "g", "std::iter::empty()"),
            ("fn f() { if let Some(a) = b && c {} }", "BinaryOperator", "&&", "||"),
        ] {
            assert_eq!(rewritten(source, genre, place, replacement), source);
        }
    }

    #[test]
    fn mutants_within_mutants_are_switched_one_by_one() {
        let source = "fn f() -> bool { a + b < c }";
        let outer = mutant(source, "BinaryOperator", "<", ">");
        let inner = mutant(source, "BinaryOperator", "+", "-");
        let rewritten = rewrite(source, &[(1, &outer), (2, &inner)]).unwrap();
        let expected = "fn f() -> bool { (if crate::mutants::on(1) { (a + b > c) } else { \
                        ((if crate::mutants::on(2) { (a - b) } else { (a + b) }) < c) }) }";
        assert_eq!(rewritten.text, expected);
    }
}
