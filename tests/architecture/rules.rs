//! What the project forbids, and how each finding reads.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::imports::{Import, Kind};
use crate::modules::{Modules, ROOT};

pub(crate) const MAX_FILE_LINES: usize = 600;
pub(crate) const MAX_FUNCTION_LINES: usize = 60;

/// The top-level modules, highest layer first. Modules of one layer do not use each other.
pub(crate) type Layers = Vec<Vec<String>>;

/// Reads the block that opens with "```layers" in the documentation of `lib.rs`: a layer a line, names with commas.
pub(crate) fn layers(lib: &str) -> Layers {
    let lines = lib.lines().map(|line| line.trim_start_matches("//!").trim());
    let block = lines.skip_while(|line| *line != "```layers").skip(1).take_while(|line| *line != "```");
    let layers = block.map(|line| line.split(',').map(|name| name.trim().to_owned()).collect());
    layers.collect()
}

/// Modules that the layers do not list, and listed ones that do not exist.
pub(crate) fn unlisted(layers: &Layers, modules: &Modules) -> Vec<String> {
    let listed: Vec<&String> = layers.iter().flatten().collect();
    let top = modules.all.iter().filter(|module| module.parent == Some(ROOT) && module.path.len() == 1);
    let existing: BTreeSet<&String> = top.map(|module| &module.path[0]).collect();
    let missing = existing.iter().filter(|name| !listed.contains(*name));
    let missing = missing.map(|name| format!("lib.rs lists no layer for the module {name}"));
    let unknown = listed.iter().filter(|name| !existing.contains(*name));
    let unknown = unknown.map(|name| format!("lib.rs lists {name}, which is no module"));
    missing.chain(unknown).collect()
}

/// Imports from a higher layer, or from another module of the same one.
pub(crate) fn upward_imports(layers: &Layers, imports: &[Import]) -> Vec<String> {
    let layer = |name: &str| layers.iter().position(|layer| layer.iter().any(|listed| listed == name));
    let crossing = imports.iter().filter(|import| !import.from_top.is_empty() && import.from_top != import.to_top);
    let upward = crossing.filter(
        |import| matches!((layer(&import.from_top), layer(&import.to_top)), (Some(from), Some(to)) if to <= from),
    );
    // One finding a line of code, with the longest spelling of the path.
    let mut lines: BTreeMap<(&str, usize, &str), &str> = BTreeMap::new();
    for import in upward {
        let path = lines.entry((&import.from, import.line, &import.to_top)).or_default();
        *path = if import.path.len() > path.len() { &import.path } else { path };
    }
    let from_top = |file: &str| file.split(['/', '.']).next().unwrap_or_default().to_owned();
    lines
        .iter()
        .map(|((from, line, to_top), path)| format!("{from}:{line}: {path}: {} must not use {to_top}", from_top(from)))
        .collect()
}

/// Groups of files each of which uses all others, directly or over others of the group.
pub(crate) fn circles(imports: &[Import]) -> Vec<String> {
    let used: Vec<&Import> = imports.iter().filter(|import| import.kind == Kind::Use).collect();
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in &used {
        reached.entry(&import.from).or_default().insert(&import.to);
    }
    let files: Vec<&str> = reached.keys().copied().collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = files.iter().map(|file| (*file, reach(&reached, file))).collect();
    let together = |one: &str, other: &str| reached[one].contains(other) && reached[other].contains(one);
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for file in &files {
        let group: BTreeSet<&str> = files.iter().copied().filter(|other| together(file, other)).collect();
        if group.len() > 1 && done.insert(group.clone()) {
            found.push(describe(&group, &used));
        }
    }
    found
}

/// All files that `start` uses, over any number of steps.
fn reach<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(file) = open.pop() {
        for next in uses.get(file).into_iter().flatten() {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

fn describe(group: &BTreeSet<&str>, used: &[&Import]) -> String {
    let mut text = format!("{} files use each other:", group.len());
    let mut pair = ("", "");
    for import in used.iter().filter(|import| group.contains(&*import.from) && group.contains(&*import.to)) {
        if pair != (&*import.from, &*import.to) {
            text += &format!("\n  {}:{}: {} is defined in {}", import.from, import.line, import.path, import.to);
        }
        pair = (&import.from, &import.to);
    }
    text
}

pub(crate) fn files_without_opening(files: &BTreeMap<String, String>) -> Vec<String> {
    let without = files.iter().filter(|(_, text)| !text.starts_with("//! "));
    without.map(|(file, _)| format!("{file} does not open with a //! comment")).collect()
}

pub(crate) fn long_files(files: &BTreeMap<String, String>) -> Vec<String> {
    let long = files.iter().filter(|(_, text)| text.lines().count() > MAX_FILE_LINES);
    long.map(|(file, text)| format!("{file} has {} lines, more than {MAX_FILE_LINES}", text.lines().count())).collect()
}

/// The product's functions. A test may be a long table.
pub(crate) fn long_functions(modules: &Modules) -> Vec<String> {
    let mut found = Vec::new();
    for module in &modules.all {
        let mut measure = LongFunctions { file: &module.file, found: &mut found };
        module.items.iter().for_each(|item| measure.visit_item(item));
    }
    found
}

struct LongFunctions<'a> {
    file: &'a str,
    found: &'a mut Vec<String>,
}

impl LongFunctions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line - first + 1;
        if lines > MAX_FUNCTION_LINES {
            let name = &signature.ident;
            let file = self.file;
            self.found.push(format!("{file}:{first}: {name} has {lines} lines, more than {MAX_FUNCTION_LINES}"));
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions<'_> {
    /// A module inside the file is a module of its own.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
