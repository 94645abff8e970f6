//! The sections of `docs/operating.md` about each reason, for the status page.
//!
//! The manual is compiled in, so that the page shows the manual of this version. Only the Markdown that the manual uses is
//! understood: emphasis, code, links.

use std::sync::LazyLock;

use maud::{Markup, html};

use crate::preview::Reason;

const MANUAL: &str = include_str!("../../../docs/operating.md");

/// The paragraphs of each reason, in the order of `Reason::ALL`.
static PARAGRAPHS: LazyLock<Vec<Vec<String>>> =
    LazyLock::new(|| Reason::ALL.iter().map(|reason| paragraphs(MANUAL, reason.as_str())).collect());

/// The section of the manual about `reason`.
pub(super) fn section(reason: Reason) -> Markup {
    let paragraphs = PARAGRAPHS.get(reason.index()).map(Vec::as_slice).unwrap_or_default();
    html! {
        @for paragraph in paragraphs {
            p { (marked_up(paragraph)) }
        }
    }
}

/// The section `### heading`, one string for each paragraph. A sentence that begins with emphasis (`*Check*: …`) begins a
/// paragraph too.
fn paragraphs(manual: &str, heading: &str) -> Vec<String> {
    let is_heading = |line: &&str| line.strip_prefix("### ").is_some_and(|title| title == heading);
    let lines = manual.lines().skip_while(|line| !is_heading(line)).skip(1);
    let text: Vec<_> = lines.take_while(|line| !line.starts_with('#')).collect();
    let text = text.join(" ");
    let mut paragraphs = Vec::new();
    for (position, part) in text.split(" *").enumerate() {
        match paragraphs.last_mut() {
            // A part that does not begin with `word*:` is emphasis within a sentence.
            Some(last) if !begins_paragraph(part) => *last = format!("{last} *{part}"),
            _ if position == 0 => paragraphs.push(part.to_owned()),
            _ => paragraphs.push(format!("*{part}")),
        }
    }
    paragraphs.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn begins_paragraph(part: &str) -> bool {
    part.split_once("*:").is_some_and(|(word, _)| !word.contains([' ', '*']))
}

/// The marks of one paragraph as HTML. The text is escaped.
fn marked_up(text: &str) -> Markup {
    let Some((position, mark)) = text.char_indices().find(|(_, character)| matches!(character, '`' | '*' | '[')) else {
        return html! { (text) };
    };
    let (before, rest) = (text.get(..position).unwrap_or_default(), text.get(position + 1..).unwrap_or_default());
    let (marked, after) = match mark {
        '`' => between(rest, '`').map(|(code, after)| (html! { code { (code) } }, after)),
        '*' => between(rest, '*').map(|(words, after)| (html! { em { (words) } }, after)),
        _ => link(rest),
    }
    .unwrap_or_else(|| (html! { (mark) }, rest));
    html! { (before) (marked) (marked_up(after)) }
}

fn between(text: &str, end: char) -> Option<(&str, &str)> {
    text.split_once(end)
}

/// The text of a link. Its target is left out: the admin listener does not serve the other files of the manual.
fn link(text: &str) -> Option<(Markup, &str)> {
    let (words, rest) = text.split_once("](")?;
    let (_, after) = rest.split_once(')')?;
    Some((marked_up(words), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_section() {
        for reason in Reason::ALL {
            let section = section(*reason).into_string();
            assert!(section.contains("<p>"), "{reason}");
            assert!(!section.contains("](") && !section.contains('`') && !section.contains('*'), "{section}");
        }
    }

    #[test]
    fn marks_become_elements_and_everything_is_escaped() {
        let marked = marked_up("*Means*: `<b>` of [the `x` <i>](a.md#b) & 2 * 3 `open").into_string();
        assert_eq!(marked, "<em>Means</em>: <code>&lt;b&gt;</code> of the <code>x</code> &lt;i&gt; &amp; 2 * 3 `open");
    }

    #[test]
    fn sentences_with_a_heading_are_paragraphs() {
        let manual = "### a\n*Means*: one\ntwo *three* 4. *Check*: five.\n\n### b\n*Means*: no\n";
        assert_eq!(paragraphs(manual, "a"), ["*Means*: one two *three* 4.", "*Check*: five."]);
        assert!(paragraphs(manual, "c").is_empty());
    }
}
