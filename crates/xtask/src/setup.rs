//! Gets a machine with only the toolchains (Rust, a JDK with Maven, Node, Python, Go) ready to build, run or test.
//!
//! Two layers. *Debian packages*: whatever is missing is installed when we are root on Debian, else named. *Pinned clients and the
//! oracle*: into `$SETUP_CACHE` (default `~/.cache/thalweg`), each beside a stamp that holds its manifest's text, so that a second
//! run costs a few file reads and a changed manifest installs anew.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, workspace};

/// Something a machine must have, how to see that it does, and what brings it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    /// Who has a new one, for those of which a distribution's may be too old.
    upstream: Option<&'static str>,
    look: fn() -> Found,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Fit,
    Nothing,
    TooOld { found: Version, oldest: Version },
}

/// As many numbers as tell releases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; 3]);

const TO_BUILD: &[Need] = &[
    Need::any("a C++ compiler (RocksDB)", &["g++"], || answers("c++", "--version")),
    Need::any("clang (bindings to RocksDB)", &["clang"], || answers("clang", "--version")),
    Need::any("libclang (bindings to RocksDB)", &["libclang-dev"], libclang),
    Need::any("protoc (gRPC)", &["protobuf-compiler"], || answers("protoc", "--version")),
];

/// The client of the first line that `make run` prints.
const KCAT: Need = Need::any("kcat", &["kcat"], || answers("kcat", "-V"));

const TO_TEST: &[Need] = &[
    KCAT,
    Need { upstream: Some("adoptium.net"), ..Need::any("a JDK", &["openjdk-17-jdk-headless"], jdk) },
    Need::any("Maven", &["maven"], || answers("mvn", "--version")),
    Need { upstream: Some("nodejs.org"), ..Need::any("Node", &["nodejs"], node_itself) },
    Need::any("npm", &["npm"], || answers("npm", "--version")),
    Need { upstream: Some("python.org"), ..Need::any("Python with venv", &["python3", "python3-venv"], python_itself) },
    Need { upstream: Some("go.dev"), ..Need::any("Go", &["golang-go"], go_itself) },
];

/// What only root can use: without it the faults of networks are left out, and that is said.
const TO_CUT_NETWORKS: &[Need] = &[
    Need::any("iptables (partitions)", &["iptables"], || answers("iptables", "--version")),
    Need::any("ip and tc (networks of namespaces)", &["iproute2"], || answers("ip", "-Version")),
];

/// Clients that are a single source file, and the oracle.
const OLDEST_JAVA: Version = Version([17, 0, 0]);
/// NestJS asks for it.
const OLDEST_NODE: Version = Version([20, 0, 0]);
/// cramjam, which is kafka-python's codecs, asks for it.
const OLDEST_PYTHON: Version = Version([3, 11, 0]);

pub fn run(arguments: &[String]) -> Result<()> {
    match arguments.first().map(String::as_str) {
        // Who cannot install packages can serve all the same.
        Some("run") if is_root() => provide(TO_BUILD.iter().chain([&KCAT])),
        Some("run") => provide(TO_BUILD.iter()),
        Some("test") => for_tests(),
        _ => bail!("set-up for what? `cargo xtask setup run` or `cargo xtask setup test`"),
    }
}

pub fn for_tests() -> Result<()> {
    let cuts = if is_root() { TO_CUT_NETWORKS } else { &[] };
    provide(TO_BUILD.iter().chain(TO_TEST).chain(cuts))?;
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Two runs at once must not install over each other.
    let lock = File::create(cache.join("setup.lock"))?;
    lock.lock().context("cannot lock the cache folder")?;
    let clients = clients();
    python(&clients.join("python/requirements.txt"), &cache.join("python"))?;
    python(&clients.join("python/requirements-2.txt"), &cache.join("python-2"))?;
    go(&clients.join("go"), &cache.join("go"))?;
    node(&clients.join("node"), &cache.join("node"))?;
    kafka(&clients.join("kafka"), &cache.join("kafka"))
}

/// The manifests of the clients.
fn clients() -> PathBuf {
    workspace::root().join("tests-e2e/clients")
}

/// Where pinned clients and the oracle live; `tests-e2e` looks in the same place.
fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SETUP_CACHE") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither SETUP_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/thalweg"))
}

fn provide<'a>(needs: impl Iterator<Item = &'a Need>) -> Result<()> {
    let missing: Vec<(&Need, String)> = needs.filter_map(|need| Some((need, need.complaint((need.look)())?))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|(need, _)| need.packages.iter().copied()).collect();
    if !(is_root() && command::succeeds(Command::new("apt-get").arg("--version"))) {
        let lines: Vec<String> = missing.iter().map(|(_, complaint)| format!("  {complaint}")).collect();
        bail!(
            "please install, then run this again:\n{}\non Debian: apt-get install {}",
            lines.join("\n"),
            packages.join(" ")
        );
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    command::run(apt().arg("update"))?;
    command::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&packages))?;
    match missing.iter().find_map(|(need, _)| need.complaint((need.look)())) {
        Some(complaint) => bail!("installed {}, and this is still to be installed: {complaint}", packages.join(" ")),
        None => Ok(()),
    }
}

impl Need {
    /// Whatever version is there will do, or `look` knows better.
    const fn any(what: &'static str, packages: &'static [&'static str], look: fn() -> Found) -> Need {
        Need { what, packages, upstream: None, look }
    }

    /// What is wrong, and what to install.
    fn complaint(&self, found: Found) -> Option<String> {
        let debian = format!("Debian: {}", self.packages.join(" "));
        let from = self.upstream.map_or_else(|| debian.clone(), |upstream| format!("{debian}, or from {upstream}"));
        match found {
            Found::Fit => None,
            Found::Nothing => Some(format!("{} ({from})", self.what)),
            Found::TooOld { found, oldest } => {
                Some(format!("{}, {oldest} or newer: {found} is here and too old ({from})", self.what))
            }
        }
    }
}

/// A virtual environment with the clients of one list of requirements.
fn python(requirements: &Path, target: &Path) -> Result<()> {
    once(target, &[requirements.to_path_buf()], || {
        command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(target))?;
        let mut pip = Command::new(target.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        command::run(pip.arg(requirements))
    })
}

/// The Go applications as one program; the modules are where Go keeps them, checked against go.sum.
fn go(manifests: &Path, target: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(manifests).with_context(|| format!("cannot list {}", manifests.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    once(target, &files, || {
        let mut go = Command::new("go");
        go.current_dir(manifests).args(["build", "-o"]).arg(target.join("clients")).arg(".");
        command::run(&mut go)
    })
}

/// `node_modules` exactly as the lock file says. No install scripts: every package brings what it needs.
fn node(manifests: &Path, target: &Path) -> Result<()> {
    let files = [manifests.join("package.json"), manifests.join("package-lock.json")];
    once(target, &files, || {
        fs::create_dir_all(target)?;
        for file in &files {
            let name = file.file_name().context("a manifest has a name")?;
            fs::copy(file, target.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
        command::run(npm.arg(target))
    })
}

/// The jars of Apache Kafka and its tools.
fn kafka(manifests: &Path, target: &Path) -> Result<()> {
    once(target, &[manifests.join("pom.xml")], || {
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file"]).arg(manifests.join("pom.xml"));
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        command::run(maven.arg(format!("-DoutputDirectory={}", target.join("jars").display())))
    })
}

/// Runs `install` unless the stamp in `target` says it was done for these very manifests.
fn once(target: &Path, manifests: &[PathBuf], install: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for manifest in manifests {
        wanted += &fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    }
    let stamp = target.join(".stamp");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    if target.exists() {
        fs::remove_dir_all(target).with_context(|| format!("cannot clear {}", target.display()))?;
    }
    install()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn answers(program: &str, argument: &str) -> Found {
    present(command::succeeds(Command::new(program).arg(argument)))
}

fn present(is_present: bool) -> Found {
    if is_present { Found::Fit } else { Found::Nothing }
}

/// With the compiler.
fn jdk() -> Found {
    match asked("java", "-version", "version \"", OLDEST_JAVA) {
        Found::Fit => asked("javac", "-version", "javac ", OLDEST_JAVA),
        unfit => unfit,
    }
}

fn node_itself() -> Found {
    asked("node", "--version", "v", OLDEST_NODE)
}

/// A version of Python without `ensurepip` (Debian's, without python3-venv) makes environments that have no pip.
fn python_itself() -> Found {
    match asked("python3", "--version", "Python ", OLDEST_PYTHON) {
        Found::Fit => present(command::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))),
        unfit => unfit,
    }
}

/// Whether the Go that is there takes the module of our applications: go.mod says which one it needs. An older one may get that itself.
fn go_itself() -> Found {
    let module = clients().join("go");
    if command::succeeds(Command::new("go").current_dir(&module).args(["list", "-m"])) {
        return Found::Fit;
    }
    let wanted = fs::read_to_string(module.join("go.mod")).ok();
    let oldest = wanted.as_deref().and_then(|text| version_after(text, "\ngo "));
    match oldest.map(|oldest| asked("go", "version", " go", oldest)) {
        Some(too_old @ Found::TooOld { .. }) => too_old,
        _ => Found::Nothing,
    }
}

fn asked(program: &str, argument: &str, mark: &str, oldest: Version) -> Found {
    judged(command::said(Command::new(program).arg(argument)).as_deref(), mark, oldest)
}

/// What a program says of its version, which stands behind `mark`.
fn judged(said: Option<&str>, mark: &str, oldest: Version) -> Found {
    match said.and_then(|said| version_after(said, mark)) {
        None => Found::Nothing,
        Some(found) if found < oldest => Found::TooOld { found, oldest },
        Some(_) => Found::Fit,
    }
}

/// The first version that stands right behind `mark`.
fn version_after(text: &str, mark: &str) -> Option<Version> {
    text.match_indices(mark).find_map(|(at, _)| {
        let number = text.get(at + mark.len()..)?;
        let number = number.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next()?;
        let mut version = [0; 3];
        for (place, part) in version.iter_mut().zip(number.split('.')) {
            *place = part.parse().ok()?;
        }
        Some(Version(version))
    })
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version([major, minor, patch]) = self;
        match (minor, patch) {
            (0, 0) => write!(f, "{major}"),
            (_, 0) => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

fn libclang() -> Found {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return Found::Fit;
    }
    let holds_libclang = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with("libclang") && name.contains(".so"))
    };
    let llvm = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let llvm = llvm.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
    present(llvm.map(|path| path.join("lib")).chain(["/usr/lib".into(), "/usr/lib64".into()]).any(holds_libclang))
}

fn is_root() -> bool {
    command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_each_program_says_them() {
        let read = |said: &str, mark: &str| version_after(said, mark).map(|version| version.to_string());
        let java =
            "Picked up JAVA_TOOL_OPTIONS: -Xmx512m\nopenjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime (build 17)";
        assert_eq!(read(java, "version \""), Some("17.0.15".to_owned()));
        assert_eq!(read("java version \"1.8.0_392\"", "version \""), Some("1.8".to_owned()));
        assert_eq!(read("openjdk version \"25-ea\" 2025-09-16", "version \""), Some("25".to_owned()));
        assert_eq!(read("javac 21.0.2\n", "javac "), Some("21.0.2".to_owned()));
        assert_eq!(read("v20.20.2\n", "v"), Some("20.20.2".to_owned()));
        assert_eq!(read("Python 3.13.0rc2\n", "Python "), Some("3.13".to_owned()));
        assert_eq!(read("go version go1.26.8 linux/amd64", " go"), Some("1.26.8".to_owned()));
        assert_eq!(read("go version devel go1.27-3c9 linux/amd64", " go"), Some("1.27".to_owned()));
        assert_eq!(read("module thalweg\n\ngo 1.26.0\n", "\ngo "), Some("1.26".to_owned()));
        for nonsense in ["", "v", "vx.1", "v99999999999", "20.1"] {
            assert_eq!(read(nonsense, "v"), None, "{nonsense}");
        }
    }

    #[test]
    fn who_is_too_old_is_told_so_with_what_to_install() {
        let node = Need { upstream: Some("nodejs.org"), ..Need::any("Node", &["nodejs"], || Found::Fit) };
        let of = |said: Option<&str>| node.complaint(judged(said, "v", Version([20, 0, 0])));
        assert_eq!((of(Some("v20.0.0")), of(Some("v22.1.0"))), (None, None));
        let old = "Node, 20 or newer: 18.19 is here and too old (Debian: nodejs, or from nodejs.org)";
        assert_eq!(of(Some("v18.19.0")).as_deref(), Some(old));
        assert_eq!(of(None).as_deref(), Some("Node (Debian: nodejs, or from nodejs.org)"));
        let of_nine = judged(Some("Python 3.9.2"), "Python ", OLDEST_PYTHON);
        assert_eq!(of_nine, Found::TooOld { found: Version([3, 9, 2]), oldest: OLDEST_PYTHON });
    }

    #[test]
    fn the_stamp_runs_an_installation_once_per_manifest_text() {
        let folder = std::env::temp_dir().join(format!("thalweg-setup-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let manifest = folder.join("manifest");
        let target = folder.join("target");
        let mut runs = 0;
        for text in ["one", "one", "two"] {
            fs::write(&manifest, text).expect("writable");
            once(&target, std::slice::from_ref(&manifest), || {
                runs += 1;
                fs::create_dir_all(&target).map_err(Into::into)
            })
            .expect("installed");
        }
        assert_eq!(runs, 2, "once for `one`, once for `two`");

        fs::write(&manifest, "three").expect("writable");
        let failed = once(&target, std::slice::from_ref(&manifest), || bail!("no network"));
        assert!(failed.is_err() && !target.join(".stamp").exists(), "a failed installation leaves no stamp");
        fs::remove_dir_all(&folder).expect("cleared");
    }
}
