//! The page in the older text format of Prometheus (`text/plain; version=0.0.4`), made from the OpenMetrics page.
//!
//! The formats differ in four points: counters and infos are described by the names of their samples, there is no type for
//! an info, and the page has neither units nor an end mark.

/// The page in the older format.
pub(super) fn from_open_metrics(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    // The description comes before the type that decides about the name.
    let mut help = None;
    for line in page.lines() {
        if let Some(description) = line.strip_prefix("# HELP ") {
            help = description.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, description)) = help.take().filter(|(described, _)| *described == name) {
                push(&mut text, &["# HELP ", name, ending, " ", description]);
            }
            push(&mut text, &["# TYPE ", name, ending, " ", kind]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_name_the_samples() {
        let page = "# HELP a Counts.\n# TYPE a counter\na_total{x=\"# TYPE b counter\"} 1\n# HELP b Says.\n# TYPE b info\n\
                    b_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\n# UNIT c seconds\nc 2.5\n# EOF\n";
        let expected = "# HELP a_total Counts.\n# TYPE a_total counter\na_total{x=\"# TYPE b counter\"} 1\n\
                        # HELP b_info Says.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 2.5\n";
        assert_eq!(from_open_metrics(page), expected);
    }
}
