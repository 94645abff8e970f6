//! Which file uses an item of which other file.
//!
//! A path is followed through `use` items and re-exports to the file that *defines* the item: a child that imports a
//! sibling's type by way of its parent depends on the sibling, not on the parent. A `pub use` that only hands an item on
//! is no use of it; any other mention is. A name that nothing in a module explains was made by a macro there, and counts
//! as defined there. A glob import counts as a use of everything that the module hands on.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::modules::{Module, ModuleId, Modules, ROOT, attributes, leaves, only_for_tests};

/// A mention, in the file `from`, of something that the file `to` defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
    /// As it is spelled.
    pub path: String,
    /// The top-level modules on both sides; empty for the root itself.
    pub from_top: String,
    pub to_top: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The code of the file works with the item.
    Use,
    /// `pub use` hands the item on.
    ReExport,
    /// The path leads through this module to an item of another one.
    Through,
}

pub(crate) fn find(modules: &Modules) -> Vec<Import> {
    let mut found = BTreeSet::new();
    for id in 0..modules.all.len() {
        let mut finder = Finder { modules, module: id, found: &mut found };
        for item in &modules.all[id].items {
            finder.visit_item(item);
        }
    }
    found.into_iter().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(ModuleId),
    /// An item that the file of this module defines.
    ItemOf(ModuleId),
}

/// What `path`, written in `module`, stands for; nothing when it leads out of the crate or to a local variable.
fn resolve(modules: &Modules, module: ModuleId, path: &[String], seen: &mut Seen) -> BTreeSet<Target> {
    let (start, rest) = anchor(modules, module, path);
    let mut targets = match (start, rest.split_first()) {
        (Some(start), _) => BTreeSet::from([Target::Module(start)]),
        (None, Some((first, _))) => look_up(modules, module, first, seen),
        (None, None) => return BTreeSet::new(),
    };
    let steps = if start.is_some() { rest } else { &rest[1..] };
    for step in steps {
        targets = descend(modules, &targets, step, seen);
    }
    targets
}

/// Follows the leading `crate`, `self` and `super` of a path.
fn anchor<'p>(modules: &Modules, module: ModuleId, path: &'p [String]) -> (Option<ModuleId>, &'p [String]) {
    let mut at = None;
    for (index, segment) in path.iter().enumerate() {
        at = match segment.as_str() {
            "crate" | "$crate" | "previewgate" if index == 0 => Some(ROOT),
            "self" if index == 0 => Some(module),
            "super" => modules.all[at.unwrap_or(module)].parent,
            _ => return (at, &path[index..]),
        };
    }
    (at, &[])
}

fn descend(modules: &Modules, targets: &BTreeSet<Target>, step: &str, seen: &mut Seen) -> BTreeSet<Target> {
    let below: BTreeSet<ModuleId> = targets.iter().filter_map(|target| module_of(*target)).collect();
    if below.is_empty() {
        return targets.clone(); // A variant or an associated item of what was found already.
    }
    let mut found = BTreeSet::new();
    for module in below {
        let here = look_up(modules, module, step, seen);
        if here.is_empty() {
            found.insert(Target::ItemOf(module));
        }
        found.extend(here);
    }
    found
}

fn module_of(target: Target) -> Option<ModuleId> {
    match target {
        Target::Module(module) => Some(module),
        Target::ItemOf(_) => None,
    }
}

/// Names that are being looked up, so that a circle of re-exports ends.
type Seen = BTreeSet<(ModuleId, String)>;

fn look_up(modules: &Modules, id: ModuleId, name: &str, seen: &mut Seen) -> BTreeSet<Target> {
    let mut found = BTreeSet::new();
    if !seen.insert((id, name.to_owned())) {
        return found;
    }
    let module = &modules.all[id];
    found.extend(module.children.get(name).map(|child| Target::Module(*child)));
    found.extend(module.defined.iter().any(|defined| defined == name).then_some(Target::ItemOf(id)));
    found.extend(module.exported_macros.get(name).map(|defined_in| Target::ItemOf(*defined_in)));
    for alias in module.aliases.iter().filter(|alias| alias.name == name) {
        found.extend(resolve(modules, id, &alias.path, seen));
    }
    if found.is_empty() {
        for glob in &module.globs {
            let sources = resolve(modules, id, glob, seen);
            for source in sources.into_iter().filter_map(module_of) {
                found.extend(look_up(modules, source, name, seen));
            }
        }
    }
    seen.remove(&(id, name.to_owned()));
    found
}

/// Walks over the items of one module.
struct Finder<'a> {
    modules: &'a Modules,
    module: ModuleId,
    found: &'a mut BTreeSet<Import>,
}

impl Finder<'_> {
    fn here(&self) -> &Module {
        &self.modules.all[self.module]
    }

    fn mention(&mut self, path: &[String], line: usize, kind: Kind) {
        let targets = resolve(self.modules, self.module, path, &mut Seen::new());
        for target in targets {
            if let Target::ItemOf(defined_in) = target {
                self.add(defined_in, path, line, kind);
            }
        }
        self.mention_of_top(path, line);
    }

    /// The module that a path names counts for the direction too, wherever the item is defined.
    fn mention_of_top(&mut self, path: &[String], line: usize) {
        let (start, rest) = anchor(self.modules, self.module, path);
        if start == Some(ROOT)
            && let Some(top) = rest.first().and_then(|name| self.modules.all[ROOT].children.get(name))
        {
            self.add(*top, path, line, Kind::Through);
        }
    }

    fn add(&mut self, to: ModuleId, path: &[String], line: usize, kind: Kind) {
        let (from, to) = (self.here(), &self.modules.all[to]);
        if from.file != to.file {
            let top = |module: &Module| module.path.first().cloned().unwrap_or_default();
            let import = Import {
                from: from.file.clone(),
                line,
                to: to.file.clone(),
                path: path.join("::"),
                from_top: top(from),
                to_top: top(to),
                kind,
            };
            self.found.insert(import);
        }
    }

    /// Everything that the module behind `path::*` defines or hands on.
    fn mention_all(&mut self, path: &[String], line: usize, kind: Kind) {
        for target in resolve(self.modules, self.module, path, &mut Seen::new()) {
            match target {
                Target::ItemOf(module) => self.add(module, path, line, kind),
                Target::Module(module) => {
                    self.add(module, path, line, kind);
                    for defined_in in handed_on(self.modules, module) {
                        self.add(defined_in, path, line, kind);
                    }
                }
            }
        }
        self.mention_of_top(path, line);
    }

    /// Paths in the arguments of macros, which have no syntax of their own.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        let mut dollar = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path, line);
                    }
                    line = ident.span().start().line;
                    path.push(if dollar { format!("${ident}") } else { ident.to_string() });
                    (colons, dollar) = (0, false);
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_of_path(&mut path, line);
                    dollar = matches!(&other, TokenTree::Punct(punct) if punct.as_char() == '$');
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.mention(path, line, Kind::Use);
            path.clear();
        }
    }
}

/// The modules that define what `module` hands on.
fn handed_on(modules: &Modules, module: ModuleId) -> BTreeSet<ModuleId> {
    let paths = modules.all[module].aliases.iter().map(|alias| &alias.path);
    let targets = paths.flat_map(|path| resolve(modules, module, path, &mut Seen::new()));
    let defined_in = targets.filter_map(|target| match target {
        Target::ItemOf(module) => Some(module),
        Target::Module(_) => None,
    });
    defined_in.collect()
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !only_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !only_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    /// A module inside the file is a module of its own.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        let kind = if matches!(item.vis, syn::Visibility::Inherited) { Kind::Use } else { Kind::ReExport };
        for leaf in leaves(&item.tree) {
            match leaf.name {
                Some(_) => self.mention(&leaf.path, leaf.line, kind),
                None => self.mention_all(&leaf.path, leaf.line, kind),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
            self.mention(&segments, line, Kind::Use);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        self.visit_path(&invoked.path);
        self.tokens(invoked.tokens.clone());
    }
}
