//! Gets a machine with only the toolchains (Rust, a JDK with Maven, Node, Python, Go) ready to build, run or test.
//!
//! Two layers. *Debian packages*: whatever is missing is installed when we are root on Debian, else named. *Pinned clients and the
//! oracle*: into `$SETUP_CACHE` (default `~/.cache/thalweg`), each beside a stamp that holds its manifest's text, so that a second
//! run costs a few file reads and a changed manifest installs anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, workspace};

/// Something a machine must have, how to see that it does, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    present: fn() -> bool,
}

const TO_BUILD: &[Need] = &[
    Need { what: "a C++ compiler (RocksDB)", packages: &["g++"], present: || answers("c++", "--version") },
    Need { what: "clang (bindings to RocksDB)", packages: &["clang"], present: || answers("clang", "--version") },
    Need { what: "libclang (bindings to RocksDB)", packages: &["libclang-dev"], present: libclang_present },
    Need { what: "protoc (gRPC)", packages: &["protobuf-compiler"], present: || answers("protoc", "--version") },
];

/// The client of the first line that `make run` prints.
const KCAT: Need = Need { what: "kcat", packages: &["kcat"], present: || answers("kcat", "-V") };

const TO_TEST: &[Need] = &[
    KCAT,
    Need {
        what: "a JDK, 17 or newer",
        packages: &["openjdk-17-jdk-headless"],
        // With the compiler: some clients are a single source file.
        present: || answers("java", "-version") && answers("javac", "-version"),
    },
    Need { what: "Maven", packages: &["maven"], present: || answers("mvn", "--version") },
    Need { what: "Node", packages: &["nodejs"], present: || answers("node", "--version") },
    Need { what: "npm", packages: &["npm"], present: || answers("npm", "--version") },
    Need { what: "Python with venv", packages: &["python3", "python3-venv"], present: python_present },
    Need { what: "Go 1.26 or newer", packages: &["golang-go"], present: go_present },
];

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
    provide(TO_BUILD.iter().chain(TO_TEST))?;
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
    let missing: Vec<&Need> = needs.filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages.iter().copied()).collect();
    if !(is_root() && answers("apt-get", "--version")) {
        let lines: Vec<String> =
            missing.iter().map(|need| format!("  {} (Debian: {})", need.what, need.packages.join(" "))).collect();
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
    match missing.iter().find(|need| !(need.present)()) {
        Some(need) => bail!("installed {}, yet there still is no {}", need.packages.join(" "), need.what),
        None => Ok(()),
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

fn answers(program: &str, argument: &str) -> bool {
    command::succeeds(Command::new(program).arg(argument))
}

/// A version of Python without `ensurepip` (Debian's, without python3-venv) makes environments that have no pip.
fn python_present() -> bool {
    command::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

/// Whether the Go that is there takes the module of our applications: go.mod says which one it needs.
fn go_present() -> bool {
    command::succeeds(Command::new("go").current_dir(clients().join("go")).args(["list", "-m"]))
}

fn libclang_present() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let holds_libclang = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with("libclang") && name.contains(".so"))
    };
    let llvm = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let llvm = llvm.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
    llvm.map(|path| path.join("lib")).chain(["/usr/lib".into(), "/usr/lib64".into()]).any(holds_libclang)
}

fn is_root() -> bool {
    command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

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
