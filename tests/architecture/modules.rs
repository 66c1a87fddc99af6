//! The module graph of a crate, parsed from its sources: which module uses which.
//!
//! A path counts wherever it stands: in a `use`, a type, an expression, the arguments of a macro.
//! A name that a module re-exports counts as a use of the module that defines the item. Test
//! modules (`#[cfg(test)]`) are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Expr, Item, ItemMod, ItemUse, Macro, Token, UseTree, Variant, VisRestricted,
    Visibility,
};

use super::root;

/// A module's path from the crate's root, which is the empty path.
pub type ModulePath = Vec<String>;

/// The modules of one crate.
#[derive(Default)]
pub struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

/// What one module declares and names.
#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// Imported names, and the path that each stands for.
    imports: BTreeMap<String, Vec<String>>,
    /// Paths in the order of the source, and whether each is a re-export.
    paths: Vec<(Vec<String>, bool)>,
    /// Types that other modules can name.
    public_types: Vec<String>,
}

/// One module that names an item of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub from: ModulePath,
    pub to: ModulePath,
    /// The file and the path in it.
    pub at: String,
    pub is_reexport: bool,
}

impl Crate {
    /// Reads the crate whose library is `directory/src/lib.rs`.
    pub fn read(directory: &str) -> Self {
        let mut this = Self::default();
        let source = root().join(directory).join("src");
        this.read_file(Vec::new(), &source.join("lib.rs"), &source);
        this
    }

    /// `children`: the directory of the module's own modules.
    fn read_file(&mut self, path: ModulePath, file: &Path, children: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        self.read_items(path, &parsed.items, file, children);
    }

    fn read_items(&mut self, path: ModulePath, items: &[Item], file: &Path, children: &Path) {
        let relative = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let mut module = Module { file: relative, ..Module::default() };
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            if let Item::Mod(child) = item {
                module.children.insert(child.ident.to_string());
                self.read_child(&path, child, file, children);
            } else {
                module.visit_item(item);
                module.public_types.extend(public_type(item));
            }
        }
        self.modules.insert(path, module);
    }

    fn read_child(&mut self, parent: &[String], child: &ItemMod, file: &Path, directory: &Path) {
        let name = child.ident.to_string();
        let path = [parent, std::slice::from_ref(&name)].concat();
        let directory = directory.join(&name);
        match &child.content {
            Some((_, items)) => self.read_items(path, items, file, &directory),
            None => {
                let own: PathBuf = directory.with_extension("rs");
                let own = if own.exists() { own } else { directory.join("mod.rs") };
                self.read_file(path, &own, &directory);
            }
        }
    }

    /// Returns every use of one module by another.
    pub fn uses(&self) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        for (from, module) in &self.modules {
            for (path, is_reexport) in &module.paths {
                let Some(to) = self.resolve(from, path, 0).filter(|to| to != from) else {
                    continue;
                };
                let at = format!("{}: {}", module.file, path.join("::"));
                uses.insert(Use { from: from.clone(), to, at, is_reexport: *is_reexport });
            }
        }
        uses
    }

    /// Returns the types that other modules can name, with the path of their module.
    pub fn public_types(&self) -> impl Iterator<Item = (&ModulePath, &str)> {
        self.modules.iter().flat_map(|(path, module)| {
            module.public_types.iter().map(move |name| (path, name.as_str()))
        })
    }

    /// Returns the module that defines what `path` names in module `from`; `None` for other crates'
    /// items and for local names.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
        const IMPORTS_MAX: usize = 8; // a chain of re-exports is shorter
        let (first, rest) = path.split_first()?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (from.to_vec(), rest),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), rest),
            _ if depth < IMPORTS_MAX => return self.resolve_name(from, path, depth),
            _ => return None,
        };
        while let Some((segment, after)) = rest.split_first() {
            if segment == "super" {
                at.pop()?;
            } else if self.modules.get(&at)?.children.contains(segment) {
                at.push(segment.clone());
            } else {
                let imported = self.resolve_name(&at, rest, depth);
                return Some(imported.unwrap_or(at));
            }
            rest = after;
        }
        Some(at)
    }

    /// Resolves a path that begins with a child or an import of `module`.
    fn resolve_name(&self, module: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let known = self.modules.get(module)?;
        if known.children.contains(first) {
            return self.resolve(module, &[&["self".to_owned()], path].concat(), depth + 1);
        }
        let imported = known.imports.get(first).filter(|imported| imported[0] != *first)?;
        self.resolve(module, &[imported, rest].concat(), depth + 1)
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let under = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(tree) => self.import(&tree.tree, &under(&tree.ident), is_reexport),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before, is_reexport));
            }
            UseTree::Glob(_) => self.paths.push((before.to_vec(), is_reexport)),
            UseTree::Name(name) if name.ident == "self" => {
                self.bind(before.last().cloned().unwrap(), before.to_vec(), is_reexport);
            }
            UseTree::Name(name) => {
                self.bind(name.ident.to_string(), under(&name.ident), is_reexport)
            }
            UseTree::Rename(name) => {
                self.bind(name.rename.to_string(), under(&name.ident), is_reexport);
            }
        }
    }

    fn bind(&mut self, name: String, path: Vec<String>, is_reexport: bool) {
        self.paths.push((path.clone(), is_reexport));
        self.imports.insert(name, path);
    }
}

impl<'a> Visit<'a> for Module {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.paths.push((segments.collect(), false));
        visit::visit_path(self, path);
    }

    fn visit_variant(&mut self, variant: &'a Variant) {
        if !is_test(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'a Arm) {
        if !is_test(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_vis_restricted(&mut self, _: &'a VisRestricted) {} // `pub(super)` uses nothing

    fn visit_macro(&mut self, called: &'a Macro) {
        type Arguments = Punctuated<Expr, Token![,]>;
        if let Ok(arguments) = called.parse_body_with(Arguments::parse_terminated) {
            let mut inside = Self::default();
            arguments.iter().for_each(|argument| inside.visit_expr(argument));
            self.paths.append(&mut inside.paths);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

fn public_type(item: &Item) -> Option<String> {
    let (visibility, name) = match item {
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Union(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        Item::Type(item) => (&item.vis, &item.ident),
        _ => return None,
    };
    (!matches!(visibility, Visibility::Inherited)).then(|| name.to_string())
}
