//! QEMU's command line, as a pure function of what is wanted.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use outcrop_guest::protocol::{COMPILE_PORT_NAME, PORT_NAME};

use super::recipe::{Accelerator, QemuRecipe};

/// The mount tag of the sysroot.
pub(super) const ROOT_TAG: &str = "root";

/// Where the guest reaches the compile service: an address of QEMU's own network.
pub const COMPILE_ADDRESS: ([u8; 4], u16) = ([10, 0, 2, 100], 3632);

/// The guest's own address in that network.
pub(super) const GUEST_ADDRESS: [u8; 4] = [10, 0, 2, 15];

/// How QEMU's 9p server keeps owners, modes and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityModel {
    /// In `user.virtfs.*` attributes: what the mapped view of a sysroot translates.
    MappedXattr,
    /// In `.virtfs_metadata` directories; for plain directories without extended attributes.
    MappedFile,
    /// As they are: only the calling user's own files can be made.
    None,
}

impl SecurityModel {
    fn name(self) -> &'static str {
        match self {
            SecurityModel::MappedXattr => "mapped-xattr",
            SecurityModel::MappedFile => "mapped-file",
            SecurityModel::None => "none",
        }
    }
}

/// The sysroot of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// A directory of the host, through QEMU's 9p server.
    NineP { export: PathBuf, security_model: SecurityModel },
    /// A server in this process or another (`outcrop_fs::transport::VirtiofsServer`), which listens on
    /// this unix socket.
    Virtiofs { socket: PathBuf },
    /// None: commands run in the initramfs.
    None,
}

/// The host's end of the compile service: one process for each connection, no listening port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileForward {
    /// Program and arguments; it talks on its standard input and output.
    pub command: Vec<OsString>,
}

/// A disk for a finished system; what the guest writes is thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub image: PathBuf,
    /// QEMU's name for the format: `raw`, `qcow2`.
    pub format: String,
}

/// Everything that decides the command line, besides the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOptions {
    pub kernel: PathBuf,
    pub initramfs: Option<PathBuf>,
    pub memory_mib: u32,
    pub accelerator: Accelerator,
    pub root: Root,
    pub compile: Option<CompileForward>,
    /// The descriptor of the control channel, which QEMU inherits.
    pub control: Option<i32>,
    /// The descriptor of compilers' calls, as the control channel's.
    pub calls: Option<i32>,
    pub disk: Option<Disk>,
    /// More words for the kernel's command line, after the recipe's.
    pub kernel_arguments: Vec<String>,
}

/// The arguments for `recipe.binary`. The console is on standard output.
pub fn command_line(recipe: &QemuRecipe, options: &MachineOptions) -> Vec<OsString> {
    let mut line = Line { words: Vec::new(), suffix: recipe.device_suffix() };
    line.machine(recipe, options);
    line.kernel(recipe, options);
    if let Some(descriptor) = options.control {
        line.control(descriptor);
    }
    if let Some(descriptor) = options.calls {
        line.calls(descriptor);
    }
    match &options.root {
        Root::NineP { export, security_model } => {
            line.nine_p(export.as_os_str(), *security_model);
        }
        Root::Virtiofs { socket } => {
            line.virtiofs(recipe, socket.as_os_str(), options.memory_mib);
        }
        Root::None => {}
    }
    if let Some(compile) = &options.compile {
        line.compile(compile);
    }
    if let Some(disk) = &options.disk {
        line.disk(disk);
    }
    line.words
}

struct Line {
    words: Vec<OsString>,
    suffix: &'static str,
}

impl Line {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.words.push(option.into());
        self.words.push(value.into());
    }

    fn machine(&mut self, recipe: &QemuRecipe, options: &MachineOptions) {
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            self.words.push(word.into());
        }
        self.add("-display", "none");
        let mut machine = recipe.machine.clone();
        if let Root::Virtiofs { .. } = options.root {
            machine.push_str(",memory-backend=memory");
        }
        self.add("-machine", machine);
        match options.accelerator {
            Accelerator::Tcg => {
                self.add("-accel", "tcg");
                self.add("-cpu", &recipe.cpu);
            }
            Accelerator::Kvm => {
                self.add("-accel", "kvm");
                self.add("-cpu", "host");
            }
        }
        // More processors under TCG were measured to gain nothing: more guests do.
        self.add("-smp", "1");
        self.add("-m", options.memory_mib.to_string());
        self.add("-chardev", "stdio,id=console,signal=off");
        self.add("-serial", "chardev:console");
    }

    fn kernel(&mut self, recipe: &QemuRecipe, options: &MachineOptions) {
        self.add("-kernel", &options.kernel);
        if let Some(initramfs) = &options.initramfs {
            self.add("-initrd", initramfs);
        }
        // With panic=-1 a panic restarts at once, and with -no-reboot that ends QEMU.
        let mut words = vec![format!("console={}", recipe.console), "panic=-1".into()];
        words.extend(recipe.kernel_arguments.iter().cloned());
        words.extend(options.kernel_arguments.iter().cloned());
        if options.accelerator == Accelerator::Tcg && matches!(options.root, Root::Virtiofs { .. })
        {
            // QEMU does not see what a server of its own writes into memory, and would go on with the
            // translation of the code that was there. That the guest itself clears it first, it sees.
            words.push("init_on_alloc=1".into());
        }
        if options.control.is_some() {
            words.push(format!("outcrop.modules={}", self.modules(options)));
        }
        self.add("-append", words.join(" "));
    }

    /// What the agent is to load: each module costs an emulated guest some 50 ms.
    fn modules(&self, options: &MachineOptions) -> String {
        let bus = match self.suffix {
            "pci" => "virtio_pci",
            "ccw" => "virtio_ccw",
            _ => "virtio_mmio",
        };
        let mut names = vec![bus, "virtio_console"];
        match options.root {
            Root::NineP { .. } => names.extend(["9p", "9pnet_virtio"]),
            Root::Virtiofs { .. } => names.push("virtiofs"),
            Root::None => {}
        }
        if options.compile.is_some() {
            names.push("virtio_net");
        }
        names.join(",")
    }

    fn control(&mut self, descriptor: i32) {
        self.add("-chardev", format!("socket,id=control,fd={descriptor}"));
        self.add("-device", format!("virtio-serial-{}", self.suffix));
        self.add("-device", format!("virtserialport,chardev=control,name={PORT_NAME}"));
    }

    fn calls(&mut self, descriptor: i32) {
        self.add("-chardev", format!("socket,id=calls,fd={descriptor}"));
        self.add("-device", format!("virtserialport,chardev=calls,name={COMPILE_PORT_NAME}"));
    }

    fn nine_p(&mut self, export: &OsStr, model: SecurityModel) {
        let mut value = OsString::from("local,id=root,path=");
        value.push(escape(export));
        // One mounted file system: its inode numbers can be passed on as they are.
        value.push(format!(",security_model={},multidevs=forbid", model.name()));
        self.add("-fsdev", value);
        let device = format!("virtio-9p-{},fsdev=root,mount_tag={ROOT_TAG}", self.suffix);
        self.add("-device", device);
    }

    /// The server works on the guest's memory itself, so that must be shared.
    fn virtiofs(&mut self, recipe: &QemuRecipe, socket: &OsStr, memory_mib: u32) {
        let memory = format!("memory-backend-memfd,id=memory,size={memory_mib}M,share=on");
        self.add("-object", memory);
        let mut value = OsString::from("socket,id=root,path=");
        value.push(escape(socket));
        self.add("-chardev", value);
        // With fewer descriptors the guest would have to cut its transfers.
        let device = recipe.virtiofs_device();
        self.add("-device", format!("{device},chardev=root,tag={ROOT_TAG},queue-size=1024"));
    }

    fn compile(&mut self, compile: &CompileForward) {
        let ([a, b, c, d], port) = COMPILE_ADDRESS;
        let forward = format!("user,id=net,restrict=on,guestfwd=tcp:{a}.{b}.{c}.{d}:{port}-cmd:");
        let mut value = OsString::from(forward);
        value.push(escape(&shell_words(&compile.command)));
        self.add("-netdev", value);
        self.add(
            "-device",
            match self.suffix {
                // Without its boot ROM, which would run at every start.
                "pci" => "virtio-net-pci,netdev=net,romfile=".to_owned(),
                suffix => format!("virtio-net-{suffix},netdev=net"),
            },
        );
    }

    fn disk(&mut self, disk: &Disk) {
        let mut value = OsString::from("file=");
        value.push(escape(disk.image.as_os_str()));
        value.push(format!(",format={},if=none,id=disk,snapshot=on", disk.format));
        self.add("-drive", value);
        self.add("-device", format!("virtio-blk-{},drive=disk", self.suffix));
    }
}

/// In the values of QEMU's options a comma is written twice.
fn escape(value: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value.as_bytes() {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

/// QEMU cuts the command of `guestfwd` into words as a shell would.
fn shell_words(command: &[OsString]) -> OsString {
    let mut text = Vec::new();
    for word in command {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.push(b'\'');
        for byte in word.as_bytes() {
            if *byte == b'\'' {
                text.extend_from_slice(br"'\''");
            } else {
                text.push(*byte);
            }
        }
        text.push(b'\'');
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(machine: &str) -> QemuRecipe {
        QemuRecipe {
            binary: "qemu-system-x86_64".into(),
            package: "qemu-system-x86".into(),
            machine: machine.into(),
            cpu: "max".into(),
            console: "ttyS0".into(),
            kernel_arguments: vec!["quiet".into()],
        }
    }

    fn options() -> MachineOptions {
        MachineOptions {
            kernel: "/kit/vmlinuz".into(),
            initramfs: Some("/kit/initramfs".into()),
            memory_mib: 512,
            accelerator: Accelerator::Tcg,
            root: Root::None,
            compile: None,
            control: Some(7),
            calls: None,
            disk: None,
            kernel_arguments: Vec::new(),
        }
    }

    fn words(recipe: &QemuRecipe, options: &MachineOptions) -> Vec<String> {
        command_line(recipe, options).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn values<'a>(words: &'a [String], option: &str) -> Vec<&'a str> {
        words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn nothing_is_reachable_unless_asked_for() {
        let words = words(&recipe("pc"), &options());
        assert!(words.contains(&"-nodefaults".into()));
        assert!(values(&words, "-netdev").is_empty());
        assert!(values(&words, "-fsdev").is_empty());
        assert!(values(&words, "-drive").is_empty());
    }

    #[test]
    fn a_panic_ends_qemu() {
        let words = words(&recipe("pc"), &options());
        assert!(words.contains(&"-no-reboot".into()));
        assert!(values(&words, "-append")[0].starts_with("console=ttyS0 panic=-1 quiet"));
    }

    #[test]
    fn only_the_modules_of_the_devices_are_loaded() {
        let mut options = options();
        let append = |options: &_| values(&words(&recipe("pc"), options), "-append")[0].to_owned();
        assert!(append(&options).ends_with(" outcrop.modules=virtio_pci,virtio_console"));
        options.compile = Some(CompileForward { command: vec!["x".into()] });
        assert!(append(&options).ends_with(",virtio_net"));
        // A finished system may need any of them.
        options.control = None;
        assert!(!append(&options).contains("outcrop.modules"));
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let mut options = options();
        let export = PathBuf::from("/tmp/a,b");
        options.root = Root::NineP { export, security_model: SecurityModel::MappedXattr };
        let words = words(&recipe("pc"), &options);
        assert_eq!(
            values(&words, "-fsdev"),
            ["local,id=root,path=/tmp/a,,b,security_model=mapped-xattr,multidevs=forbid"]
        );
    }

    #[test]
    fn virtiofs_needs_shared_memory_of_the_guests_size() {
        let mut options = options();
        options.root = Root::Virtiofs { socket: "a,b.socket".into() };
        let words = words(&recipe("pc"), &options);
        assert_eq!(values(&words, "-machine"), ["pc,memory-backend=memory"]);
        assert_eq!(
            values(&words, "-object"),
            ["memory-backend-memfd,id=memory,size=512M,share=on"]
        );
        assert!(values(&words, "-chardev").contains(&"socket,id=root,path=a,,b.socket"));
        let device = "vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024";
        assert!(values(&words, "-device").contains(&device));
        assert!(values(&words, "-append")[0].ends_with(",virtio_console,virtiofs"));
    }

    #[test]
    fn memory_that_a_server_writes_is_cleared_by_an_emulated_guest() {
        let mut options = options();
        let mut recipe = recipe("pc");
        recipe.kernel_arguments.push("init_on_alloc=0".into());
        let clears = |options: &_| {
            let words = words(&recipe, options);
            let append = values(&words, "-append")[0].to_owned();
            // Of several the kernel takes the last one.
            append.split(' ').rfind(|word| word.starts_with("init_on_alloc"))
                == Some("init_on_alloc=1")
        };
        assert!(!clears(&options));
        options.root = Root::Virtiofs { socket: "socket".into() };
        assert!(clears(&options));
        options.accelerator = Accelerator::Kvm;
        assert!(!clears(&options));
    }

    #[test]
    fn the_compile_command_is_quoted_word_by_word() {
        let mut options = options();
        let command = vec!["/usr/bin/out crop".into(), "it's".into(), "a,b".into()];
        options.compile = Some(CompileForward { command });
        let words = words(&recipe("pc"), &options);
        let forward = "user,id=net,restrict=on,guestfwd=tcp:10.0.2.100:3632-cmd:";
        assert_eq!(
            values(&words, "-netdev"),
            [format!(r"{forward}'/usr/bin/out crop' 'it'\''s' 'a,,b'")]
        );
    }

    #[test]
    fn microvm_has_no_pci_devices() {
        let mut options = options();
        options.disk = Some(Disk { image: "/x".into(), format: "raw".into() });
        let words = words(&recipe("microvm,rtc=on"), &options);
        assert!(!words.iter().any(|word| word.contains("-pci")), "{words:?}");
        assert!(values(&words, "-device").contains(&"virtio-blk-device,drive=disk"));
    }

    #[test]
    fn a_disk_image_is_never_written() {
        let mut options = options();
        options.disk = Some(Disk { image: "/image".into(), format: "raw".into() });
        let words = words(&recipe("pc"), &options);
        assert!(values(&words, "-drive")[0].contains("snapshot=on"));
    }

    #[test]
    fn kvm_uses_the_hosts_processor() {
        let mut options = options();
        options.accelerator = Accelerator::Kvm;
        let words = words(&recipe("pc"), &options);
        assert_eq!(values(&words, "-cpu"), ["host"]);
        assert_eq!(values(&words, "-accel"), ["kvm"]);
    }
}
