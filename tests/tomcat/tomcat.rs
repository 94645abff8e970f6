//! A real Tomcat with the small CC-Gateway of `app/` in it, as a child process.
//!
//! Needs the Debian packages that `.ci/packages` lists. Where they are missing the tests are skipped, unless `CI` is
//! `true`.
//!
//! One source for both versions: it is written for the `javax` packages, and Tomcat 10 gets it with `jakarta` in their
//! place. So do the JAX-RS libraries, by Tomcat's own migration tool: there are none for `jakarta` in Debian.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

const JARS: &str = "/usr/share/java";
const MIGRATION: &str = "/usr/share/tomcat-jakartaee-migration/lib";
/// Of Tomcat, behind `tomcat9-` or `tomcat10-`.
const TOMCAT: [&str; 10] =
    ["api", "catalina", "coyote", "juli", "servlet-api", "annotations-api", "jaspic-api", "jni", "util", "util-scan"];
const LIBRARIES: [&str; 6] =
    ["jackson-core", "jackson-annotations", "jackson-databind", "gson", "json-smart", "json-android"];
/// Debian's json-smart needs these, where they are packaged apart.
const HELPERS: [&str; 2] = ["accessors-smart", "asm"];
/// The JAX-RS routers, each with its libraries: they implement different versions of one API. What is needed comes
/// first: Debian's jars name those in `javax` spelling in their manifests.
pub(crate) const ROUTERS: [(&str, &[&str]); 2] = [
    ("Jersey", &["jsr311-api", "asm", "jersey1-core", "jersey1-server", "jersey1-servlet"]),
    ("Resteasy", &["javax.ws.rs-api", "jaxb-api", "jboss-logging", "resteasy-jaxrs"]),
];

/// The versions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `javax.servlet`.
    Nine,
    /// `jakarta.servlet`.
    Ten,
}

impl Version {
    fn number(self) -> u32 {
        match self {
            Self::Nine => 9,
            Self::Ten => 10,
        }
    }

    /// The compiled application. It is made once, and kept until something changes that it is made of.
    fn built(self) -> &'static Path {
        static BUILT: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        let [nine, ten] = &BUILT;
        let built = if self == Self::Nine { nine } else { ten };
        built.get_or_init(|| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let name = format!("tomcat{}-{:016x}", self.number(), self.made_of());
            let place = kept.join(name);
            if !place.exists() {
                let made = tempfile::tempdir_in(kept).unwrap();
                Site { version: self, directory: made.path() }.build();
                // Another run may have been quicker.
                assert!(fs::rename(made.path(), &place).is_ok() || place.exists());
            }
            place
        })
    }

    /// Changes with the sources, the libraries and the compiler.
    fn made_of(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for source in sources() {
            fs::read(source).unwrap().hash(&mut hasher);
        }
        for library in installed(self).chain(routers().map(jar)) {
            let file = fs::metadata(&library).unwrap();
            (library, file.len(), file.modified().unwrap()).hash(&mut hasher);
        }
        Command::new("javac").arg("-version").output().unwrap().stdout.hash(&mut hasher);
        hasher.finish()
    }
}

/// A running Tomcat; killed when dropped.
pub(crate) struct Tomcat {
    child: Child,
    directory: TempDir,
    /// The port of the connector as Tomcat comes.
    pub(crate) standard: u16,
    /// The port of the connector with every relaxation.
    pub(crate) lenient: u16,
    /// The port of the same, but the application gets encoded slashes and backslashes as they came.
    pub(crate) passing: u16,
}

impl Tomcat {
    /// Starts the application; nothing, and a message, where that is not possible.
    pub(crate) fn start(version: Version) -> Option<Self> {
        Self::start_with_charset(version, "UTF-8")
    }

    /// The same, with this default charset of the JVM.
    pub(crate) fn start_with_charset(version: Version, charset: &str) -> Option<Self> {
        match missing(version) {
            None => Some(Self::launch(version, charset)),
            Some(missing) => {
                crate::support::skip(&format!("no real Tomcat to compare with: {missing}"));
                None
            }
        }
    }

    fn launch(version: Version, charset: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let site = Site { version, directory: version.built() };
        let mut child = Command::new("java")
            .arg(format!("-Dfile.encoding={charset}"))
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp"])
            .args([&site.class_path(), "Main"])
            .args([directory.path(), &directory.path().join("journal")])
            .args(ROUTERS.iter().map(|router| site.described(router)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.path().join("tomcat.log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok()?.strip_prefix("ready ").map(str::to_owned));
        let log = || fs::read_to_string(directory.path().join("tomcat.log")).unwrap_or_default();
        let ready = ready.unwrap_or_else(|| panic!("Tomcat does not start: {}", log()));
        let ports: Vec<_> = ready.split(' ').map(|port| port.parse().unwrap()).collect();
        Self { child, directory, standard: ports[0], lenient: ports[1], passing: ports[2] }
    }

    /// What has arrived so far, one JSON object in each line.
    pub(crate) fn journal(&self) -> String {
        let mut journal = fs::read_to_string(self.directory.path().join("journal")).unwrap();
        // Others may be under way: their line can be there in part.
        journal.truncate(journal.rfind('\n').map_or(0, |end| end + 1));
        journal
    }
}

impl Drop for Tomcat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of one application.
struct Site<'a> {
    version: Version,
    directory: &'a Path,
}

impl Site<'_> {
    fn build(&self) {
        if self.version == Version::Ten {
            self.migrate();
        }
        let path: Vec<_> = [self.class_path()].into_iter().chain(routers().map(|name| self.library(name))).collect();
        let compiled = Command::new("javac")
            .args(["-J-XX:TieredStopAtLevel=1", "-nowarn", "-proc:none", "-encoding", "UTF-8", "-d"])
            .arg(self.directory.join("classes"))
            .args(["-cp", &path.join(":")])
            .args(self.sources())
            .output()
            .unwrap();
        assert!(compiled.status.success(), "javac: {}", String::from_utf8_lossy(&compiled.stderr));
        // What is written against JAX-RS is for the routers' own class loaders.
        fs::create_dir(self.directory.join("routers")).unwrap();
        fs::rename(self.directory.join("classes/rest"), self.directory.join("routers/rest")).unwrap();
    }

    /// The libraries that know `javax` only, in the spelling of Tomcat 10.
    fn migrate(&self) {
        let (from, to) = (self.directory.join("javax"), self.directory.join("jakarta"));
        fs::create_dir(&from).unwrap();
        for name in routers() {
            fs::copy(format!("{JARS}/{name}.jar"), from.join(format!("{name}.jar"))).unwrap();
        }
        let migrated = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{MIGRATION}/*")])
            .args(["org.apache.tomcat.jakartaee.MigrationCLI", "-profile=EE", "-logLevel=WARNING"])
            .args([from, to])
            .output()
            .unwrap();
        assert!(migrated.status.success(), "migration: {}", String::from_utf8_lossy(&migrated.stderr));
    }

    /// The source files as this version compiles them.
    fn sources(&self) -> Vec<PathBuf> {
        let place = self.directory.join("source");
        fs::create_dir_all(place.join("rest")).unwrap();
        let spelled = |source: PathBuf| {
            let written = place.join(source.strip_prefix(application()).unwrap());
            fs::write(&written, self.spelled(&fs::read_to_string(source).unwrap())).unwrap();
            written
        };
        sources().into_iter().map(spelled).collect()
    }

    fn spelled(&self, source: &str) -> String {
        match self.version {
            Version::Nine => source.to_owned(),
            Version::Ten => {
                let servlet = source.replace("import javax.servlet.", "import jakarta.servlet.");
                servlet.replace("import javax.ws.rs.", "import jakarta.ws.rs.")
            }
        }
    }

    fn class_path(&self) -> String {
        let classes = self.directory.join("classes").display().to_string();
        let helpers = HELPERS.iter().map(|name| jar(name));
        [classes].into_iter().chain(installed(self.version)).chain(helpers).collect::<Vec<_>>().join(":")
    }

    /// A router for the command line.
    fn described(&self, (name, libraries): &(&str, &[&str])) -> String {
        let own = format!("{}/", self.directory.join("routers").display());
        let path: Vec<_> = [own].into_iter().chain(libraries.iter().map(|name| self.library(name))).collect();
        format!("{name}={}", path.join(":"))
    }

    /// A library of a router.
    fn library(&self, name: &str) -> String {
        match self.version {
            Version::Nine => jar(name),
            Version::Ten => self.directory.join(format!("jakarta/{name}.jar")).display().to_string(),
        }
    }
}

fn application() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tomcat/app")
}

/// The source files, in a fixed order.
fn sources() -> Vec<PathBuf> {
    let files = |place: PathBuf| fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let all = files(application()).chain(files(application().join("rest")));
    let mut sources: Vec<_> =
        all.filter(|file| file.extension().is_some_and(|extension| extension == "java")).collect();
    sources.sort();
    sources
}

fn jar(name: &str) -> String {
    format!("{JARS}/{name}.jar")
}

fn routers() -> impl Iterator<Item = &'static str> {
    ROUTERS.iter().flat_map(|(_, libraries)| libraries.iter().copied())
}

/// Everything on the class path that all parts of the application share.
fn installed(version: Version) -> impl Iterator<Item = String> {
    let tomcat = TOMCAT.iter().map(move |name| jar(&format!("tomcat{}-{name}", version.number())));
    tomcat.chain(LIBRARIES.iter().map(|name| jar(name)))
}

fn missing(version: Version) -> Option<String> {
    let runs =
        |program: &str| Command::new(program).arg("-version").output().is_ok_and(|output| output.status.success());
    if let Some(program) = ["java", "javac"].into_iter().find(|program| !runs(program)) {
        return Some(format!("{program} is not installed"));
    }
    let needed = installed(version).chain(routers().map(jar));
    let migration = (version == Version::Ten).then(|| MIGRATION.to_owned());
    needed.chain(migration).find(|file| !Path::new(file).exists()).map(|file| format!("{file} is missing"))
}
