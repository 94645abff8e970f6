//! A real Tomcat with the small CC-Gateway of `app/` in it, as a child process.
//!
//! Needs `default-jdk-headless libtomcat9-java libjersey1-server-java libjersey1-servlet-java libjackson2-databind-java
//! libgoogle-gson-java libjson-smart-java libandroid-json-org-java` (Debian 12). Where they are missing the tests are
//! skipped, unless `CI` is
//! `true`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const JARS: &str = "/usr/share/java";
const TOMCAT: [&str; 10] = [
    "tomcat9-api",
    "tomcat9-catalina",
    "tomcat9-coyote",
    "tomcat9-juli",
    "tomcat9-servlet-api",
    "tomcat9-annotations-api",
    "tomcat9-jaspic-api",
    "tomcat9-jni",
    "tomcat9-util",
    "tomcat9-util-scan",
];
const LIBRARIES: [&str; 10] = [
    "jersey1-core",
    "jersey1-server",
    "jersey1-servlet",
    "jsr311-api",
    "jackson-core",
    "jackson-annotations",
    "jackson-databind",
    "gson",
    "json-smart",
    "json-android",
];

/// A running Tomcat; killed when dropped.
pub(crate) struct Tomcat {
    child: Child,
    directory: TempDir,
    /// The port of the connector as Tomcat comes.
    pub(crate) standard: u16,
    /// The port of the connector with every relaxation.
    pub(crate) lenient: u16,
}

impl Tomcat {
    /// Compiles and starts the application; nothing, and a message, where that is not possible.
    pub(crate) fn start() -> Option<Self> {
        match missing() {
            None => Some(Self::launch()),
            Some(what) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("CI must have it: {what}"),
            Some(what) => {
                eprintln!("SKIPPED: no real Tomcat to compare with: {what}");
                None
            }
        }
    }

    fn launch() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let classes = directory.path().join("classes");
        let compiled = Command::new("javac")
            .args(["-nowarn", "-proc:none", "-encoding", "UTF-8", "-d"])
            .arg(&classes)
            .args(["-cp", &class_path(None)])
            .args(sources())
            .output()
            .unwrap();
        assert!(compiled.status.success(), "javac: {}", String::from_utf8_lossy(&compiled.stderr));
        let mut child = Command::new("java")
            .args([
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx256m",
                "-cp",
                &class_path(Some(&classes)),
                "Main",
            ])
            .args([directory.path(), &directory.path().join("journal")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.path().join("tomcat.log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok()?.strip_prefix("ready ").map(str::to_owned));
        let log = || std::fs::read_to_string(directory.path().join("tomcat.log")).unwrap_or_default();
        let ready = ready.unwrap_or_else(|| panic!("Tomcat does not start: {}", log()));
        let mut ports = ready.split(' ').map(|port| port.parse().unwrap());
        let (standard, lenient) = (ports.next().unwrap(), ports.next().unwrap());
        Self { child, directory, standard, lenient }
    }

    /// What has arrived so far, one JSON object in each line.
    pub(crate) fn journal(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("journal")).unwrap()
    }
}

impl Drop for Tomcat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sources() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tomcat/app");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "java")).collect()
}

fn jars() -> impl Iterator<Item = String> {
    TOMCAT.iter().chain(&LIBRARIES).map(|name| format!("{JARS}/{name}.jar"))
}

fn class_path(classes: Option<&Path>) -> String {
    // Debian's json-smart and Jersey need these, where they are packaged apart.
    let helpers = ["accessors-smart", "asm"].iter().map(|name| format!("{JARS}/{name}.jar"));
    let classes = classes.map(|path| path.display().to_string());
    classes.into_iter().chain(jars()).chain(helpers).collect::<Vec<_>>().join(":")
}

fn missing() -> Option<String> {
    let runs =
        |program: &str| Command::new(program).arg("-version").output().is_ok_and(|output| output.status.success());
    let program = ["java", "javac"].into_iter().find(|program| !runs(program));
    let jar = || jars().find(|jar| !Path::new(jar).exists());
    program
        .map(|program| format!("{program} is not installed"))
        .or_else(|| jar().map(|jar| format!("{jar} is missing")))
}
