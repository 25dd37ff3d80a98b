//! Making kits from packages that the tests write themselves, and from the host's real archives.

use super::create::CreateOptions;
use super::lock::{FORMAT, LockedPackage};
use super::*;

fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        data.append_data(&mut header, format!("./{path}"), *content).unwrap();
    }
    let data = data.into_inner().unwrap();
    let mut deb = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar", &data)] {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len());
        deb.extend(header.into_bytes());
        deb.extend(content);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    deb
}

/// A lock whose packages are all in the store.
fn offline_kit(root: &Path, kernel_files: &[(&str, &[u8])]) -> (Kits, Lock) {
    let kits = Kits::new(root);
    fs::create_dir_all(root.join("packages")).unwrap();
    let place = |name: &str, content: Vec<u8>| {
        let sha256 = packages::digest(&mut &content[..]).unwrap();
        let size = content.len() as u64;
        fs::write(root.join(format!("packages/{sha256}.deb")), content).unwrap();
        LockedPackage {
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            sha256,
            size,
            file: format!("pool/{name}.deb"),
        }
    };
    let packages = vec![place("a", deb(&[("usr/bin/a", b"a")]))];
    let architecture = Architecture::by_name("x86_64").unwrap();
    let lock = Lock {
        format: FORMAT,
        architecture: "x86_64".into(),
        recipe: base::recipe_digest(&architecture, &packages),
        kernel: place("linux-image-1", deb(kernel_files)),
        packages,
    };
    (kits, lock)
}

fn with_lock(lock: Lock) -> CreateOptions {
    // A file without archives: nothing can be downloaded.
    CreateOptions { lock: Some(lock), sources: Some("/dev/null".into()) }
}

/// Every required module is built in, one module is a foreign one.
fn builtin_kernel() -> Vec<(&'static str, Vec<u8>)> {
    let required = Architecture::by_name("x86_64").unwrap().modules.required;
    let list: String = required.iter().map(|name| format!("kernel/{name}.ko\n")).collect();
    vec![
        ("boot/vmlinuz-1", b"kernel".to_vec()),
        ("boot/config-1", b"CONFIG_X=y\n".to_vec()),
        ("lib/modules/1/modules.builtin", list.into_bytes()),
        ("lib/modules/1/kernel/other.ko", module_without_dependencies()),
    ]
}

#[test]
fn a_kernel_with_virtiofs_built_in_is_known_from_its_configuration() {
    for (config, has_it) in [
        ("CONFIG_FUSE_FS=y\nCONFIG_VIRTIO_FS=y\n", true),
        // As a module it would be in the initramfs, too.
        ("CONFIG_VIRTIO_FS=m\n", false),
        ("# CONFIG_VIRTIO_FS is not set\n", false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut files = builtin_kernel();
        files.iter_mut().find(|(path, _)| *path == "boot/config-1").unwrap().1 = config.into();
        let (kits, lock) = offline_kit(directory.path(), &borrowed(&files));
        let kit = kits.create("x86_64", &with_lock(lock), &mut |_| ()).unwrap();
        assert_eq!(kit.has_virtiofs().unwrap(), has_it, "{config}");
    }
}

/// The smallest ELF object with a `.modinfo` section.
fn module_without_dependencies() -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let info = b"license=GPL\0depends=\0";
    let header_size = 64u64;
    let (names_at, info_at) = (header_size, header_size + names.len() as u64);
    let sections_at = info_at + info.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(1u16.to_le_bytes());
    elf.extend(62u16.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    elf.extend([0; 16]);
    elf.extend(sections_at.to_le_bytes());
    elf.extend([0; 4]);
    for field in [64u16, 0, 0, 64, 3, 2] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(names);
    elf.extend(info);
    let section = |name: u32, kind: u32, at: u64, size: u64| {
        let mut bytes = Vec::new();
        bytes.extend(name.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend([0; 24]);
        bytes
    };
    elf.extend(section(0, 0, 0, 0));
    elf.extend(section(1, 1, info_at, info.len() as u64));
    elf.extend(section(10, 3, names_at, names.len() as u64));
    elf
}

fn borrowed<'a>(files: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'static str, &'a [u8])> {
    files.iter().map(|(path, content)| (*path, content.as_slice())).collect()
}

#[test]
fn a_locked_kit_is_made_offline_and_made_again_identically() {
    let directory = tempfile::tempdir().unwrap();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&builtin_kernel()));
    let leftovers =
        [directory.path().join(".new-x"), directory.path().join("packages/.download-y")];
    leftovers.iter().for_each(|path| fs::create_dir(path).unwrap());
    let kit = kits.create("x86_64", &with_lock(lock.clone()), &mut |_| ()).unwrap();
    assert!(!leftovers.iter().any(|path| path.exists()));
    assert_eq!(kit.id(), lock.id());
    assert_eq!(fs::read(kit.kernel()).unwrap(), b"kernel");
    assert_eq!(kits.current("x86_64").unwrap().id(), kit.id());
    assert_eq!(kits.list().unwrap().len(), 1);
    assert_eq!(kit.packages()[0].label, "a_1_amd64");
    assert!(kit.packages()[0].path.is_file());

    let modules = fs::read(kit.directory().join(MODULES)).unwrap();
    let text = fs::read_to_string(kit.directory().join(LOCK_FILE)).unwrap();
    fs::remove_dir_all(kit.directory()).unwrap();
    let again = Lock::parse(&text).unwrap();
    let again = kits.create("x86_64", &with_lock(again), &mut |_| ()).unwrap();
    assert_eq!(again.id(), kit.id());
    assert_eq!(fs::read(again.directory().join(MODULES)).unwrap(), modules);
}

#[test]
fn initramfs_depends_on_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&builtin_kernel()));
    let kit = kits.create("x86_64", &with_lock(lock), &mut |_| ()).unwrap();
    let agent = directory.path().join("agent");
    fs::write(&agent, "one").unwrap();
    let one = kit.initramfs_for(&agent).unwrap();
    assert_eq!(kit.initramfs_for(&agent).unwrap(), one);
    fs::write(&agent, "two").unwrap();
    assert_ne!(kit.initramfs_for(&agent).unwrap(), one);
    let leftovers = fs::read_dir(kit.directory())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn what_is_damaged_of_a_kit_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&builtin_kernel()));
    let create = || kits.create("x86_64", &with_lock(lock.clone()), &mut |_| ()).unwrap();
    let kit = create();
    let agent = directory.path().join("agent");
    fs::write(&agent, "agent").unwrap();
    let initramfs = kit.initramfs_for(&agent).unwrap();
    let right = fs::read(&initramfs).unwrap();
    let modules = kit.directory().join(MODULES);
    fs::remove_file(&modules).unwrap();
    let error = kit.initramfs_for(&agent).unwrap_err().to_string();
    assert!(
        error.contains(MODULES) && error.contains("kit create --arch x86_64 --lock"),
        "{error}"
    );
    fs::write(&modules, b"damaged").unwrap();
    fs::write(kit.directory().join(VMLINUZ), b"damaged").unwrap();
    kit.check().unwrap();
    kit.initramfs_for(&agent).unwrap();
    assert_ne!(fs::read(&initramfs).unwrap(), right);
    assert_eq!(create().id(), kit.id());
    assert_eq!(fs::read(kit.kernel()).unwrap(), b"kernel");
    kit.initramfs_for(&agent).unwrap();
    assert_eq!(fs::read(&initramfs).unwrap(), right);
    let problems = || {
        let mut problems = Vec::new();
        kit.verify_packages(|label, _, problem| {
            problems.extend(problem.map(|p| (label.to_owned(), p)))
        });
        problems
    };
    assert_eq!(problems(), []);
    let length = fs::metadata(&kit.packages()[0].path).unwrap().len();
    fs::write(&kit.packages()[0].path, vec![b'x'; length as usize]).unwrap();
    let found = problems();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == "a_1_amd64" && found[0].1.contains("SHA-256"), "{found:?}");
    fs::remove_file(&modules).unwrap();
    assert!(kit.check().unwrap_err().to_string().contains(MODULES));
    fs::write(&modules, b"").unwrap();
    fs::write(&kit.packages()[0].path, b"cut").unwrap();
    let error = kit.check().unwrap_err().to_string();
    assert!(error.contains("package a_1_amd64: it has 3 bytes instead of"), "{error}");
    fs::remove_file(&kit.packages()[0].path).unwrap();
    assert!(kit.check().unwrap_err().to_string().contains("No such file"));
}

#[test]
fn kits_that_are_not_current_are_unused_with_the_packages_that_only_they_have() {
    let directory = tempfile::tempdir().unwrap();
    let create = |kernel: &[u8]| {
        let mut files = builtin_kernel();
        files[0].1 = kernel.to_vec();
        let (kits, lock) = offline_kit(directory.path(), &borrowed(&files));
        let kit = kits.create("x86_64", &with_lock(lock.clone()), &mut |_| ()).unwrap();
        (kits, kit, directory.path().join(format!("packages/{}.deb", lock.kernel.sha256)))
    };
    let (_, old, old_kernel) = create(b"old");
    let (kits, ..) = create(b"new");
    let orphan = directory.path().join("packages/0000.deb");
    fs::write(&orphan, b"").unwrap();
    let unused = kits.unused().unwrap();
    assert_eq!(unused.kits.len(), 1);
    assert_eq!(unused.kits[0].directory, old.directory());
    // The base layer's package is the same in both.
    assert_eq!(unused.kits[0].packages, [old_kernel]);
    assert_eq!(unused.packages, [orphan]);
    fs::write(old.directory().join(LOCK_FILE), b"damaged").unwrap();
    let unused = kits.unused().unwrap();
    assert!(unused.kits.is_empty() && unused.packages.is_empty());
}

#[test]
fn a_missing_module_is_named_with_its_package_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = builtin_kernel();
    files[2].1 = b"kernel/none.ko\n".to_vec();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&files));
    let error = kits.create("x86_64", &with_lock(lock), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("virtio_pci") && error.contains("linux-image-1"), "{error}");
    assert!(kits.list().unwrap().is_empty());
    assert!(matches!(kits.current("x86_64"), Err(Error::NoKit { .. })));
}

#[test]
fn locks_of_another_recipe_or_architecture_and_lost_packages_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&builtin_kernel()));
    let create = |lock: Lock| kits.create("x86_64", &with_lock(lock), &mut |_| ()).unwrap_err();
    let mut other = lock.clone();
    other.recipe = "00".repeat(32);
    assert!(matches!(create(other), Error::OtherRecipe { .. }));
    let mut other = lock.clone();
    other.architecture = "arm64".into();
    assert!(matches!(create(other), Error::Malformed { .. }));
    fs::remove_file(directory.path().join(format!("packages/{}.deb", lock.kernel.sha256))).unwrap();
    assert!(matches!(create(lock), Error::NoDebianArchive { .. }));
}

#[test]
fn a_damaged_kit_of_another_recipe_is_to_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (kits, lock) = offline_kit(directory.path(), &borrowed(&builtin_kernel()));
    let kit = kits.create("x86_64", &with_lock(lock.clone()), &mut |_| ()).unwrap();
    let told = |kit: &Kit| kit.damaged("its kernel", "gone").to_string();
    assert!(!kit.is_outdated());
    assert!(told(&kit).contains("kit create --arch x86_64 --lock /"), "{}", told(&kit));
    let other = Lock { recipe: "00".repeat(32), ..lock };
    fs::write(kit.directory().join(LOCK_FILE), other.render()).unwrap();
    let kit = kits.current("x86_64").unwrap();
    assert!(kit.is_outdated());
    assert!(
        told(&kit).ends_with("new kit with: outcrop kit create --arch x86_64"),
        "{}",
        told(&kit)
    );
}

/// Set `OUTCROP_TEST_KITS` to keep the downloads between runs.
#[test]
fn the_host_s_archives_give_a_kit() {
    let temporary = tempfile::tempdir().unwrap();
    let root = std::env::var_os("OUTCROP_TEST_KITS")
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let kits = Kits::new(root);
    let kit = match kits.create("x86_64", &CreateOptions::default(), &mut |_| ()) {
        Err(
            error @ (Error::NoApt { .. } | Error::NoDebianArchive { .. } | Error::Indexes { .. }),
        ) => return eprintln!("skipped: {error}"),
        kit => kit.unwrap(),
    };
    for name in ["gcc", "g++", "make", "libc6", "bash", "python3", "distcc"] {
        assert!(kit.lock().package(name).is_some(), "{name} is not in the kit");
    }
    assert!(kit.lock().compiler_package().is_some());
    assert!(kit.packages().iter().all(|package| package.path.is_file()));
    let modules = fs::read(kit.directory().join(MODULES)).unwrap();
    let text = String::from_utf8_lossy(&modules);
    let position = |name: &str| text.find(&format!("/lib/modules/{name}.ko\n"));
    assert!(position("9p") > position("9pnet"), "9p loads before 9pnet");
    assert!(position("ext4").is_some() && position("virtio_console").is_some());
    // Without the index's URIs: a lock file names only paths below an archive.
    let lost = kit.packages().into_iter().find(|package| package.label.contains('+')).unwrap();
    fs::remove_file(&lost.path).unwrap();
    let again = CreateOptions { lock: Some(kit.lock().clone()), sources: None };
    assert_eq!(kits.create("x86_64", &again, &mut |_| ()).unwrap().id(), kit.id());
    assert!(lost.path.is_file());
}
