//! The checks find what they are made for, in small sources that break one rule each.

use std::collections::BTreeMap;

use crate::imports::{self, Import, Kind};
use crate::{modules, rules};

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

fn imports(sources: &[(&str, &str)]) -> Vec<Import> {
    imports::find(&modules::read(&files(sources)))
}

/// Pairs of files of which the first one uses the second one.
fn uses(sources: &[(&str, &str)]) -> Vec<(String, String)> {
    let used = imports(sources).into_iter().filter(|import| import.kind == Kind::Use);
    let mut pairs: Vec<_> = used.map(|import| (import.from, import.to)).collect();
    pairs.dedup();
    pairs
}

#[track_caller]
fn assert_uses(sources: &[(&str, &str)], expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    assert_eq!(uses(sources), expected);
}

#[track_caller]
fn assert_circle(sources: &[(&str, &str)], expected: &[&str]) {
    let circles = rules::circles(&imports(sources));
    let [circle] = circles.as_slice() else { panic!("not one circle but {circles:?}") };
    assert!(circle.starts_with(&format!("{} files", expected.len())), "{circle}");
    assert!(expected.iter().all(|file| circle.contains(file)), "{circle}");
}

#[track_caller]
fn assert_no_circle(sources: &[(&str, &str)]) {
    assert_eq!(rules::circles(&imports(sources)), Vec::<String>::new());
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    assert_circle(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "use crate::a::A; pub struct B(Box<A>);"),
        ],
        &["a.rs", "b.rs"],
    );
}

#[test]
fn a_circle_over_a_third_file_is_found() {
    assert_circle(
        &[
            ("lib.rs", "mod a; mod b; mod c; mod outside;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "use crate::c::C; pub struct B(C);"),
            ("c.rs", "use crate::a::A; pub struct C(Box<A>);"),
            ("outside.rs", "use crate::a::A; fn f(_: A) {}"),
        ],
        &["a.rs", "b.rs", "c.rs"],
    );
}

#[test]
fn paths_inside_code_and_macros_count_like_imports() {
    for text in [
        "pub struct A; fn f() { crate::b::g() }",
        "pub struct A; fn f() { println!(\"{}\", crate::b::g()) }",
        "pub struct A; fn f() { vec![Some((super::b::g(), 1))]; }",
        "pub struct A; fn f() -> Vec<crate::b::B> { Vec::new() }",
        "pub struct A; macro_rules! m { () => { $crate::b::g() } }",
        "pub struct A; use crate::b; fn f() { b::g() }",
        "pub struct A; fn f() { use crate::b; b::g() }",
        "pub struct A; impl super::b::T for A {}",
        "pub struct A; mod inner { fn f() { super::super::b::g() } }",
        "pub struct A; use crate::{b::{g as h}}; fn f() { h() }",
        "pub struct A; use crate::b::*; fn f() { g() }",
        "pub struct A; fn f() { <crate::b::B as Clone>::clone(&x) }",
    ] {
        assert_circle(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", text),
                ("b.rs", "use crate::a::A; pub fn g() {} pub struct B; pub trait T { fn f(_: A) {} }"),
            ],
            &["a.rs", "b.rs"],
        );
    }
}

#[test]
fn a_parent_that_only_reexports_its_children_is_in_no_circle() {
    assert_no_circle(&[
        ("lib.rs", "mod p;"),
        ("p/mod.rs", "mod a; mod b; pub use a::A; pub use b::B; pub struct P;"),
        ("p/a.rs", "use super::{B, P}; pub struct A(B, P);"),
        ("p/b.rs", "pub struct B;"),
    ]);
}

#[test]
fn a_parent_that_uses_its_reexports_is_in_a_circle() {
    for text in ["pub use a::A; fn f(_: A) {}", "use a::A; fn f(_: A) {}", "fn f() { a::A::new() }"] {
        assert_circle(
            &[
                ("lib.rs", "mod p;"),
                ("p/mod.rs", &format!("mod a; pub struct P; {text}")),
                ("p/a.rs", "use super::P; pub struct A(P);"),
            ],
            &["p/mod.rs", "p/a.rs"],
        );
    }
}

#[test]
fn an_import_through_the_parent_is_an_import_of_the_defining_file() {
    assert_uses(
        &[
            ("lib.rs", "mod p; mod q;"),
            ("p/mod.rs", "mod a; mod b; pub use a::{A as Renamed}; use crate::q::Q;"),
            ("p/a.rs", "pub struct A;"),
            ("p/b.rs", "use super::{Renamed, Q}; fn f(_: Renamed, _: Q) {}"),
            ("q/mod.rs", "mod deep; pub use deep::*;"),
            ("q/deep.rs", "pub struct Q;"),
        ],
        &[("p/b.rs", "p/a.rs"), ("p/b.rs", "q/deep.rs"), ("p/mod.rs", "q/deep.rs")],
    );
}

#[test]
fn items_that_a_macro_makes_and_exported_macros_have_a_file() {
    assert_uses(
        &[
            ("lib.rs", "mod list; mod a; mod b;"),
            ("list.rs", "#[macro_export] macro_rules! list { ($t:ident) => { pub struct $t; } }"),
            ("a.rs", "crate::list! { A }"),
            ("b.rs", "use crate::a::A; fn f(_: A) {}"),
        ],
        &[("a.rs", "list.rs"), ("b.rs", "a.rs")],
    );
}

#[test]
fn imports_of_tests_do_not_count() {
    assert_no_circle(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod only_tests;"),
        ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
        ("b.rs", "use crate::a::A; pub struct B(A); impl B { #[cfg(test)] fn f() { crate::only_tests::g() } }"),
    ]);
}

#[test]
fn other_crates_and_local_names_are_no_imports() {
    assert_uses(
        &[
            ("lib.rs", "mod a; mod redis;"),
            ("a.rs", "use ::redis::Value; use std::fmt::Debug; fn f(b: u8) -> u8 { b }"),
            ("redis.rs", "pub struct Value;"),
        ],
        &[],
    );
}

const LAYERED: &str = "//! Some words.\n//!\n//! ```layers\n//! top\n//! left, right\n//! bottom\n//! ```\n\n\
    mod top; mod left; mod right; mod bottom; pub use top::Top;";

fn upward(bottom: &str, left: &str) -> Vec<String> {
    let sources = [
        ("lib.rs", LAYERED),
        ("top.rs", "use crate::left::L; use crate::bottom::B; pub struct Top(L, B);"),
        ("left.rs", left),
        ("right.rs", "pub struct R; pub use crate::bottom::B as Lent;"),
        ("bottom.rs", bottom),
    ];
    let layers = rules::layers(LAYERED);
    assert_eq!(rules::unlisted(&layers, &modules::read(&files(&sources))), Vec::<String>::new());
    rules::upward_imports(&layers, &imports(&sources))
}

#[test]
fn imports_that_point_down_are_right() {
    assert_eq!(upward("pub struct B;", "use crate::bottom::B; pub struct L(B);"), Vec::<String>::new());
}

#[test]
fn imports_that_point_up_are_found() {
    for (path, text) in [
        ("crate::top::Top", "use crate::top::Top; pub struct B;"),
        ("crate::top::Top", "pub use crate::top::Top; pub struct B;"),
        ("crate::Top", "pub struct B(crate::Top);"),
        ("super::top::f", "pub struct B; fn f() { super::top::f() }"),
    ] {
        let expected = format!("bottom.rs:1: {path}: bottom must not use top");
        assert_eq!(upward(text, "pub struct L;"), [expected]);
    }
}

#[test]
fn modules_of_one_layer_do_not_use_each_other() {
    let found = upward("pub struct B;", "use crate::right::R; pub struct L(R);");
    assert_eq!(found, ["left.rs:1: crate::right::R: left must not use right"]);
}

#[test]
fn a_path_that_leads_through_a_wrong_module_is_found() {
    let found = upward("pub struct B;", "use crate::right::Lent; pub struct L(Lent);");
    assert_eq!(found, ["left.rs:1: crate::right::Lent: left must not use right"]);
}

#[test]
fn modules_without_a_layer_and_layers_without_a_module_are_found() {
    let sources = files(&[("lib.rs", "mod a; mod b;"), ("a.rs", ""), ("b.rs", "")]);
    let layers = vec![vec!["a".to_owned(), "gone".to_owned()]];
    let found = rules::unlisted(&layers, &modules::read(&sources));
    assert_eq!(found, ["lib.rs lists no layer for the module b", "lib.rs lists gone, which is no module"]);
}

#[test]
fn files_without_an_opening_comment_are_found() {
    let sources = files(&[("good.rs", "//! What it is.\n"), ("bare.rs", "use a::B;\n"), ("outer.rs", "/// Not it.\n")]);
    let found = rules::files_without_opening(&sources);
    assert_eq!(found, ["bare.rs does not open with a //! comment", "outer.rs does not open with a //! comment"]);
}

#[test]
fn files_and_functions_beyond_their_bounds_are_found() {
    let function = |name: &str, lines: usize| format!("fn {name}() {{\n{}}}\n", "x();\n".repeat(lines - 2));
    let text = [
        function("fits", rules::MAX_FUNCTION_LINES),
        function("too_long", rules::MAX_FUNCTION_LINES + 1),
        format!("impl A {{ {} }}\n", function("method", rules::MAX_FUNCTION_LINES + 1)),
        format!("trait B {{ fn without(); {} }}\n", function("default", rules::MAX_FUNCTION_LINES + 1)),
    ];
    let in_test = format!("#[cfg(test)] mod tests {{ {} }}", function("table", rules::MAX_FUNCTION_LINES + 1));
    let sources = files(&[("lib.rs", "mod a;"), ("a.rs", &[text.concat(), in_test].concat())]);
    let found: Vec<String> = rules::long_functions(&modules::read(&sources));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("a.rs:61: too_long has 61 lines"), "{found:?}");
    assert!(found[1].contains("method") && found[2].contains("default"), "{found:?}");

    let lines = |count: usize| "\n".repeat(count);
    let (fits, long) = (lines(rules::MAX_FILE_LINES), lines(rules::MAX_FILE_LINES + 1));
    let found = rules::long_files(&files(&[("fits.rs", &fits), ("long.rs", &long)]));
    assert_eq!(found, ["long.rs has 601 lines, more than 600"]);
}
