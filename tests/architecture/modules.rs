//! From source texts to a tree of modules: which file each module is in, and which names it binds to what.

use std::collections::BTreeMap;

use syn::visit::Visit;
use syn::{Item, UseTree};

/// Index of a module in [`Modules::all`].
pub(crate) type ModuleId = usize;

pub(crate) const ROOT: ModuleId = 0;

/// All modules of a crate, without those that exist only for tests.
pub(crate) struct Modules {
    pub all: Vec<Module>,
}

/// One module, whether it has a file of its own or stands inside another one.
pub(crate) struct Module {
    /// The path from the crate's root: empty for the root itself.
    pub path: Vec<String>,
    /// The file, relative to `src/`.
    pub file: String,
    pub parent: Option<ModuleId>,
    pub items: Vec<Item>,
    pub children: BTreeMap<String, ModuleId>,
    /// Names of items that this module defines.
    pub defined: Vec<String>,
    /// Macros with `#[macro_export]`, whose names are the crate root's wherever they are defined.
    pub exported_macros: BTreeMap<String, ModuleId>,
    /// Names that `use` binds here, and what they stand for.
    pub aliases: Vec<Alias>,
    /// `use path::*`.
    pub globs: Vec<Vec<String>>,
}

pub(crate) struct Alias {
    pub name: String,
    pub path: Vec<String>,
}

/// Reads the crate whose root is `lib.rs` among `files` (path relative to `src/`, text).
pub(crate) fn read(files: &BTreeMap<String, String>) -> Modules {
    let mut reader = Reader { files, all: Vec::new() };
    reader.file("lib.rs", Vec::new(), None, "");
    if files.contains_key("main.rs") {
        reader.file("main.rs", vec!["main".to_owned()], Some(ROOT), "main/");
    }
    Modules { all: reader.all }
}

struct Reader<'a> {
    files: &'a BTreeMap<String, String>,
    all: Vec<Module>,
}

impl Reader<'_> {
    /// `directory` is where the files of child modules are, with a slash at its end unless it is empty.
    fn file(&mut self, file: &str, path: Vec<String>, parent: Option<ModuleId>, directory: &str) -> ModuleId {
        let syntax = syn::parse_file(&self.files[file]).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.module(file, path, parent, directory, syntax.items)
    }

    fn module(
        &mut self,
        file: &str,
        path: Vec<String>,
        parent: Option<ModuleId>,
        directory: &str,
        items: Vec<Item>,
    ) -> ModuleId {
        let id = self.all.len();
        self.all.push(Module {
            path,
            file: file.to_owned(),
            parent,
            items: Vec::new(),
            children: BTreeMap::new(),
            defined: Vec::new(),
            exported_macros: BTreeMap::new(),
            aliases: Vec::new(),
            globs: Vec::new(),
        });
        let items: Vec<Item> = items.into_iter().filter(|item| !only_for_tests(attributes(item))).collect();
        for item in &items {
            self.bind(id, item, directory);
        }
        self.all[id].items = items;
        id
    }

    fn bind(&mut self, id: ModuleId, item: &Item, directory: &str) {
        match item {
            Item::Mod(module) => self.child(id, module, directory),
            Item::Use(item) => bind_use(&mut self.all[id], item),
            Item::Macro(item) => self.bind_macro(id, item),
            item => {
                self.all[id].defined.extend(name_of(item));
                UsesInBlocks(&mut self.all[id]).visit_item(item);
            }
        }
    }

    fn child(&mut self, id: ModuleId, module: &syn::ItemMod, directory: &str) {
        let name = module.ident.to_string();
        let path = [self.all[id].path.clone(), vec![name.clone()]].concat();
        let below = format!("{directory}{name}/");
        let child = match &module.content {
            Some((_, items)) => {
                let file = self.all[id].file.clone();
                self.module(&file, path, Some(id), &below, items.clone())
            }
            None => {
                let candidates = [format!("{directory}{name}.rs"), format!("{below}mod.rs")];
                let file = candidates.iter().find(|file| self.files.contains_key(*file));
                let file = file.unwrap_or_else(|| panic!("none of the files {candidates:?} exists"));
                self.file(file, path, Some(id), &below)
            }
        };
        self.all[id].children.insert(name, child);
    }

    fn bind_macro(&mut self, id: ModuleId, item: &syn::ItemMacro) {
        let Some(name) = item.ident.as_ref().map(ToString::to_string) else { return };
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
            self.all[ROOT].exported_macros.insert(name.clone(), id);
        }
        self.all[id].defined.push(name);
    }
}

/// `use` inside a function: its names count for the whole module.
struct UsesInBlocks<'a>(&'a mut Module);

impl<'ast> Visit<'ast> for UsesInBlocks<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        bind_use(self.0, item);
    }
}

fn bind_use(module: &mut Module, item: &syn::ItemUse) {
    if item.leading_colon.is_some() {
        return;
    }
    for leaf in leaves(&item.tree) {
        match leaf.name {
            Some(name) => module.aliases.push(Alias { name, path: leaf.path }),
            None => module.globs.push(leaf.path),
        }
    }
}

/// One path of a `use` item.
pub(crate) struct Leaf {
    pub path: Vec<String>,
    /// The name that it binds; `None` for `*`.
    pub name: Option<String>,
    pub line: usize,
}

/// `a::{b, c as d, e::*}` is three leaves.
pub(crate) fn leaves(tree: &UseTree) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect_leaves(tree, &[], &mut found);
    found
}

fn collect_leaves(tree: &UseTree, prefix: &[String], found: &mut Vec<Leaf>) {
    match tree {
        UseTree::Path(tree) => collect_leaves(&tree.tree, &extended(prefix, &tree.ident), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect_leaves(tree, prefix, found)),
        UseTree::Name(leaf) => found.push(named(extended(prefix, &leaf.ident), None, leaf.ident.span())),
        UseTree::Rename(leaf) => {
            let name = Some(leaf.rename.to_string());
            found.push(named(extended(prefix, &leaf.ident), name, leaf.ident.span()));
        }
        UseTree::Glob(leaf) => {
            let line = leaf.star_token.spans[0].start().line;
            found.push(Leaf { path: prefix.to_vec(), name: None, line });
        }
    }
}

/// `use a::b::{self}` binds `b`.
fn named(mut path: Vec<String>, name: Option<String>, span: proc_macro2::Span) -> Leaf {
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = name.or_else(|| path.last().cloned());
    Leaf { path, name, line: span.start().line }
}

fn extended(prefix: &[String], ident: &proc_macro2::Ident) -> Vec<String> {
    [prefix, &[ident.to_string()]].concat()
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]` and `#[test]`.
pub(crate) fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    })
}

pub(crate) fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
