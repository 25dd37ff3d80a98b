//! Which modules an initramfs needs, and in which order they load.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::modinfo::{ModuleInfo, name_of_path, normal_name};

/// The modules of a kernel package.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Path in the package and info, by normal name.
    modules: BTreeMap<String, (String, ModuleInfo)>,
    by_alias: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
}

/// A module that is neither in the package nor built into its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub module: String,
    pub needed_by: Option<String>,
}

impl Inventory {
    /// Adds a module by its path in the package; a path that names no module is ignored.
    pub fn add(&mut self, path: &str, info: ModuleInfo) {
        let Some(name) = name_of_path(path) else { return };
        for alias in &info.aliases {
            let provider = self.by_alias.entry(alias.clone()).or_insert_with(|| name.clone());
            // Several modules may provide an algorithm; only the generic one loads on every CPU.
            let algorithm = alias.strip_prefix("crypto_").unwrap_or(alias);
            if *name == format!("{algorithm}_generic") {
                provider.clone_from(&name);
            }
        }
        self.modules.insert(name, (path.to_owned(), info));
    }

    /// Adds what `modules.builtin` lists: one path a line.
    pub fn add_builtin(&mut self, list: &str) {
        self.builtin.extend(list.lines().filter_map(|line| name_of_path(line.trim())));
    }

    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The paths of the roots and all that they depend on, each after its dependencies. Built-in
    /// modules need no loading; absent soft dependencies and optional roots are left out.
    pub fn load_order(
        &self,
        required: &[String],
        optional: &[String],
    ) -> Result<Vec<String>, Missing> {
        let mut order = Order { inventory: self, seen: BTreeSet::new(), paths: Vec::new() };
        for root in required {
            order.visit(root, None)?;
        }
        for root in optional {
            if self.resolve(root).is_some() {
                order.visit(root, None)?;
            }
        }
        Ok(order.paths)
    }

    fn resolve(&self, name: &str) -> Option<&str> {
        let name = normal_name(name);
        let name =
            if self.modules.contains_key(&name) { &name } else { self.by_alias.get(&name)? };
        self.modules.get_key_value(name).map(|(name, _)| name.as_str())
    }
}

struct Order<'a> {
    inventory: &'a Inventory,
    seen: BTreeSet<&'a str>,
    paths: Vec<String>,
}

impl<'a> Order<'a> {
    /// Depth first with an explicit stack: a package could chain its modules arbitrarily deep.
    fn visit(&mut self, root: &str, needed_by: Option<&str>) -> Result<(), Missing> {
        enum Step<'a> {
            Enter(&'a str),
            Leave(&'a str),
        }
        let Some(root) = self.find(root, needed_by)? else { return Ok(()) };
        let mut stack = vec![Step::Enter(root)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave(path) => self.paths.push(path.to_owned()),
                Step::Enter(name) => {
                    if !self.seen.insert(name) {
                        continue;
                    }
                    let Some((path, info)) = self.inventory.modules.get(name) else { continue };
                    stack.push(Step::Leave(path));
                    // The stack reverses: what is pushed last is loaded first.
                    for dependency in info.depends.iter().rev() {
                        stack.extend(self.find(dependency, Some(name))?.map(Step::Enter));
                    }
                    for dependency in info.soft_dependencies.iter().rev() {
                        stack.extend(self.inventory.resolve(dependency).map(Step::Enter));
                    }
                }
            }
        }
        Ok(())
    }

    fn find(&self, name: &str, needed_by: Option<&str>) -> Result<Option<&'a str>, Missing> {
        match self.inventory.resolve(name) {
            Some(name) => Ok(Some(name)),
            None if self.inventory.builtin.contains(&normal_name(name)) => Ok(None),
            None => {
                Err(Missing { module: normal_name(name), needed_by: needed_by.map(str::to_owned) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(depends: &[&str], soft: &[&str], aliases: &[&str]) -> ModuleInfo {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        ModuleInfo {
            depends: owned(depends),
            soft_dependencies: owned(soft),
            aliases: owned(aliases),
        }
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.add("k/9p.ko", info(&["9pnet", "netfs"], &[], &["fs_9p"]));
        inventory.add("k/9pnet.ko", info(&[], &[], &[]));
        inventory.add("k/netfs.ko.xz", info(&["fscache"], &[], &[]));
        inventory.add("k/ext4.ko", info(&["mbcache"], &["crc32c", "crypto_crc32c", "absent"], &[]));
        inventory.add("k/mbcache.ko", info(&[], &[], &[]));
        inventory.add("k/crc32c_alpha.ko", info(&[], &[], &["crc32c", "crypto_crc32c"]));
        inventory.add("k/crc32c_generic.ko", info(&[], &[], &["crc32c", "crypto_crc32c"]));
        inventory.add("k/crc32c_zeta.ko", info(&[], &[], &["crc32c", "crypto_crc32c"]));
        inventory.add_builtin("kernel/fs/fscache/fscache.ko\nkernel/drivers/virtio-pci.ko\n");
        inventory
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn dependencies_load_first_and_once() {
        let order = inventory()
            .load_order(&names(&["virtio_pci", "9p", "ext4", "9pnet"]), &names(&["erofs"]))
            .unwrap();
        assert_eq!(
            order,
            [
                "k/9pnet.ko",
                "k/netfs.ko.xz",
                "k/9p.ko",
                "k/crc32c_generic.ko",
                "k/mbcache.ko",
                "k/ext4.ko"
            ]
        );
    }

    #[test]
    fn a_missing_module_is_named_with_its_dependant() {
        let mut inventory = inventory();
        inventory.add("k/a.ko", info(&["gone-away"], &[], &[]));
        let missing = inventory.load_order(&names(&["a"]), &[]).unwrap_err();
        assert_eq!(missing.module, "gone_away");
        assert_eq!(missing.needed_by.as_deref(), Some("a"));
        assert_eq!(inventory.load_order(&names(&["b"]), &[]).unwrap_err().needed_by, None);
    }

    proptest! {
        /// Any graph, with cycles: terminates, each module once; without cycles dependencies first.
        #[test]
        fn order_respects_every_edge(edges in proptest::collection::vec((0u8..20, 0u8..20), 0..60)) {
            let mut inventory = Inventory::default();
            for module in 0u8..20 {
                let depends: Vec<String> = edges
                    .iter()
                    .filter(|(from, to)| *from == module && to < from)
                    .map(|(_, to)| format!("m{to}"))
                    .collect();
                let cycles = edges.iter().filter(|(from, to)| *from == module && to >= from);
                let soft = cycles.map(|(_, to)| format!("m{to}")).collect();
                let info = ModuleInfo { depends, soft_dependencies: soft, aliases: vec![] };
                inventory.add(&format!("m{module}.ko"), info);
            }
            let roots: Vec<String> = (0u8..20).map(|module| format!("m{module}")).collect();
            let order = inventory.load_order(&roots, &[]).unwrap();
            prop_assert_eq!(order.len(), 20);
            let position = |module: u8| {
                order.iter().position(|path| *path == format!("m{module}.ko")).unwrap()
            };
            let acyclic = edges.iter().all(|(from, to)| to < from);
            for (from, to) in edges.iter().filter(|_| acyclic) {
                prop_assert!(position(*to) < position(*from));
            }
        }
    }
}
