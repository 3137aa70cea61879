//! Kernel modules: which devices ask for which, and loading them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use moby_bundle::modules::{self, Index, Module};
use moby_bundle::path;
use rustix::io::Errno;
use rustix::system::finit_module;

use crate::console::say;
use crate::error::{Error, Result};
use crate::order;

/// MODULE_INIT_COMPRESSED_FILE of linux/module.h: the kernel unpacks the file itself.
const COMPRESSED: i32 = 4;

/// The modules of the running kernel.
#[derive(Debug, Default)]
pub struct Modules {
    dir: PathBuf,
    index: Index<'static>,
    loaded: BTreeSet<String>,
}

impl Modules {
    /// Finds the modules of the running kernel; none is an empty index.
    pub fn open() -> Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let dir = Path::new(path::MODULES).join(release);
        // The index lives as long as PID 1; borrowing it saves a copy of every name.
        let text: &'static str = text(&dir)?.leak();
        let index = Index::parse(text).map_err(|error| {
            Error::text("reading", dir.join(path::MODULE_INDEX).display(), error)
        })?;
        Ok(Self { dir, index, loaded: BTreeSet::new() })
    }

    /// Tells whether the kernel has no modules.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Notes what is loaded already: `/proc/modules`.
    pub fn survey(&mut self) {
        let text = fs::read_to_string("/proc/modules").unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split(' ').next());
        self.loaded.extend(names.map(str::to_owned));
    }

    /// Loads `wanted`, a name or an alias, with all it needs. Tells whether there was anything
    /// to load.
    pub fn load(&mut self, wanted: &str) -> Result<bool> {
        let mut any = false;
        for name in self.index.find(wanted) {
            for module in self.index.plan(name, &self.loaded) {
                self.insert(module)?;
                self.loaded.insert(module.name.to_owned());
                any = true;
            }
        }
        Ok(any)
    }

    /// As [`Modules::load`]; an unknown name is an error, for somebody wrote it down.
    pub fn load_named(&mut self, name: &str) -> Result<()> {
        let builtin = || Path::new("/sys/module").join(name.replace('-', "_")).exists();
        if self.index.find(name).is_empty() && !builtin() {
            // A module that is built in and has no parameters leaves no trace to look for.
            say(format_args!("module {name}: not among this kernel's modules, perhaps built in"));
        }
        self.load(name).map(drop)
    }

    /// Loads what a device asks for, telling what fails.
    pub fn device(&mut self, alias: &str) {
        match self.load(alias) {
            Ok(_) => {}
            // The driver looked and there is no such device behind the alias.
            Err(error) if error.errno() == Some(Errno::NODEV) => {}
            Err(error) => say(error),
        }
    }

    /// Loads what the devices of the machine ask for, until no driver shows a new device.
    pub fn devices(&mut self) {
        let mut seen = BTreeSet::new();
        // A bus behind a bus behind a bus is as deep as it gets (PCI, virtio, SCSI).
        for _round in 0..4 {
            let new: Vec<String> =
                aliases().into_iter().filter(|alias| !seen.contains(alias)).collect();
            if new.is_empty() {
                return;
            }
            for alias in new {
                self.device(&alias);
                seen.insert(alias);
            }
        }
    }

    fn insert(&self, module: Module<'_>) -> Result<()> {
        let path = self.dir.join(module.path);
        let file =
            File::open(&path).map_err(|error| Error::io("opening", path.display(), &error))?;
        let packed = path.extension().is_some_and(|extension| extension != "ko");
        match finit_module(&file, c"", if packed { COMPRESSED } else { 0 }) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOEXEC) if packed => Err(Error::text(
                "loading",
                path.display(),
                "it is compressed and this kernel cannot unpack modules; build the kernel's package with uncompressed ones",
            )),
            Err(errno) => Err(Error::new("loading", path.display(), errno)),
        }
    }
}

/// Gives the text of an index: moby's own, else from depmod's files, else from the modules.
fn text(dir: &Path) -> Result<String> {
    let own = dir.join(path::MODULE_INDEX);
    match fs::read_to_string(&own) {
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("reading", own.display(), &error)),
    }
    let file = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let dep = file("modules.dep");
    if !dep.is_empty() {
        return Ok(modules::from_depmod(&dep, &file("modules.alias"), &file("modules.softdep")));
    }
    Ok(modules::format(&scan(dir)))
}

/// Reads what each module says of itself: slow, for kernels without any index.
fn scan(dir: &Path) -> Vec<modules::ModuleInfo> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    let mut packed = 0;
    while let Some(folder) = todo.pop() {
        for path in order::files(&folder) {
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
                continue;
            }
            let Some(inside) = path.strip_prefix(dir).ok().and_then(Path::to_str) else { continue };
            if modules::name(inside).is_none() {
                continue;
            }
            match fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| modules::info(inside, &bytes).map_err(str::to_owned))
            {
                Ok(module) => found.push(module),
                Err(_) => packed += 1,
            }
        }
    }
    if packed > 0 {
        say(format_args!(
            "{}: {packed} modules cannot be read (compressed?) and there is no index {}",
            dir.display(),
            path::MODULE_INDEX
        ));
    }
    found
}

/// Lists the modaliases of all devices.
fn aliases() -> Vec<String> {
    let buses = order::files(Path::new("/sys/bus"));
    let devices = buses.iter().flat_map(|bus| order::files(&bus.join("devices")));
    let aliases = devices.filter_map(|device| fs::read_to_string(device.join("modalias")).ok());
    aliases.map(|alias| alias.trim().to_owned()).filter(|alias| !alias.is_empty()).collect()
}

/// Does the work of modprobe(8) for the kernel, which calls it `-q -- NAME` when it misses a
/// file system, a protocol or a netfilter extension. Gives the exit code.
pub fn modprobe(args: &[String]) -> i32 {
    let quiet = args.iter().any(|arg| arg.starts_with('-') && arg.contains('q'));
    let names = args.iter().filter(|arg| !arg.starts_with('-'));
    let load = |name: &String| Modules::open()?.load(name);
    let mut code = 0;
    for name in names {
        match load(name) {
            Ok(_) => {}
            Err(error) => {
                code = 1;
                if !quiet {
                    say(error);
                }
            }
        }
    }
    code
}
