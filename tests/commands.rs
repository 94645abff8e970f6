//! Every command in the documentation is run as it stands there.
//!
//! A block of `sh` is a script that must succeed. Comments before a block change that:
//! - `<!-- serves -->`: it prints something and serves until it is stopped;
//! - `<!-- not run: why -->`: it is not run here;
//! - `<!-- file: NAME -->`: the block is not a script, and is kept under this name for the scripts of the page.
//!
//! The scripts of one page share a directory, which looks like the checkout. Each runs in a network of its own, so that
//! addresses are those of the documentation. `/etc/previewgate` and `/var/lib/previewgate` are directories of the test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A block of a page, and what the comment before it says.
#[derive(Debug, PartialEq)]
enum Block {
    Script(String),
    Server(String),
    NotRun(String),
    File { name: String, content: String },
}

/// The blocks of `sh`, and those that have a comment.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    let mut comment = None;
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("<!-- ").and_then(|text| text.strip_suffix(" -->")) {
            comment = Some(text.to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.extend(block(language, body.join("\n") + "\n", comment.take().as_deref()));
        } else if !line.is_empty() {
            comment = None;
        }
    }
    found
}

fn block(language: &str, body: String, comment: Option<&str>) -> Option<Block> {
    let comment = comment.map(|comment| comment.split_once(": ").unwrap_or((comment, "")));
    match (language, comment) {
        (_, Some(("file", name))) => Some(Block::File { name: name.to_owned(), content: body }),
        ("sh", Some(("serves", _))) => Some(Block::Server(body)),
        ("sh", Some(("not run", why))) => Some(Block::NotRun(why.to_owned())),
        ("sh", _) => Some(Block::Script(body)),
        _ => None,
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("SECURITY.md")];
    for directory in ["docs", "deploy"] {
        let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages.sort();
    pages
}

/// A directory that looks like the checkout, with the program and the places of an installation.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["benches", "config", "deploy", "docs", "src", "tests"] {
            symlink(root().join(name), directory.path().join(name)).unwrap();
        }
        for place in ["bin", "etc/previewgate", "var/lib/previewgate"] {
            std::fs::create_dir_all(directory.path().join(place)).unwrap();
        }
        let sandbox = Self(directory);
        symlink(env!("CARGO_BIN_EXE_previewgate"), sandbox.path("bin/previewgate")).unwrap();
        // From a checkout, the program is what cargo runs.
        let shim = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || { echo \"no program: cargo $*\" >&2; exit 1; }\n\
                    shift 3\nexec previewgate \"$@\"\n";
        std::fs::write(sandbox.path("bin/cargo"), shim).unwrap();
        std::fs::set_permissions(sandbox.path("bin/cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(root().join("config/previewgate.toml"), sandbox.path("etc/previewgate/previewgate.toml"))
            .unwrap();
        // A response that reports an error fails the script.
        std::fs::write(sandbox.path(".curlrc"), "fail\n").unwrap();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The script in a network of its own. Everything that it starts ends with it.
    fn command(&self, script: &str) -> Command {
        let here = self.0.path().to_str().unwrap();
        let script = script.replace("/etc/previewgate", &format!("{here}/etc/previewgate"));
        let script = script.replace("/var/lib/previewgate", &format!("{here}/var/lib/previewgate"));
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child", "--map-root-user", "--", "sh", "-euc"]);
        command.arg(format!("ip link set lo up\n{script}")).current_dir(here).env("HOME", here);
        command.env("PATH", format!("{here}/bin:{}", std::env::var("PATH").unwrap_or_default()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, page: &Path, script: &str) {
        let ran = self.command(script).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (said(&ran.stdout), said(&ran.stderr));
        assert!(ran.status.success(), "{}: {}\n{script}\n{out}{err}", page.display(), ran.status);
    }

    fn serve(&self, page: &Path, script: &str) {
        let mut server = self.command(script).spawn().unwrap();
        let mut first = [0; 1];
        let served = server.stdout.as_mut().unwrap().read_exact(&mut first);
        // It prints when it serves; it has failed if its output ends before.
        assert!(served.is_ok(), "{}: serves nothing\n{script}", page.display());
        assert!(server.try_wait().unwrap().is_none(), "{}: has ended\n{script}", page.display());
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

/// Without namespaces nothing can be run as it is written; CI must have them.
fn has_namespaces() -> bool {
    let sandbox = Sandbox::new();
    let works = sandbox.command("curl --version").output().is_ok_and(|output| output.status.success());
    if !works {
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "CI must have unshare, ip and curl");
        eprintln!("SKIPPED: unshare, ip or curl is missing, or namespaces are not allowed");
    }
    works
}

#[test]
fn every_command_in_the_documentation_works() {
    if !has_namespaces() {
        return;
    }
    let (mut run, mut skipped) = (0, 0);
    for page in pages() {
        let sandbox = Sandbox::new();
        for block in blocks(&std::fs::read_to_string(&page).unwrap()) {
            match block {
                Block::Script(script) => sandbox.run(&page, &script),
                Block::Server(script) => sandbox.serve(&page, &script),
                Block::File { name, content } => {
                    std::fs::write(sandbox.path(&name), content).unwrap();
                    continue;
                }
                Block::NotRun(why) => {
                    assert!(why.len() > 5, "{}: says not why", page.display());
                    eprintln!("{}: not run: {why}", page.display());
                    skipped += 1;
                    continue;
                }
            }
            run += 1;
        }
    }
    assert!(run >= 15, "{run} blocks were run, {skipped} were not");
}

#[test]
fn comments_belong_to_the_block_that_follows() {
    let page = "<!-- serves -->\n```sh\na\n```\n\n```sh\nb\n```\n<!-- not run: c is slow -->\n\n```sh\nc\n```\n\
                <!-- file: d.toml -->\n```toml\nd = 1\n```\n```toml\ne = 1\n```\n<!-- serves -->\ntext\n```sh\nf\n```\n";
    let script = |text: &str| Block::Script(format!("{text}\n"));
    let expected = [
        Block::Server("a\n".to_owned()),
        script("b"),
        Block::NotRun("c is slow".to_owned()),
        Block::File { name: "d.toml".to_owned(), content: "d = 1\n".to_owned() },
        script("f"),
    ];
    assert_eq!(blocks(page), expected);
}

#[test]
fn a_script_that_fails_is_noticed() {
    if !has_namespaces() {
        return;
    }
    let sandbox = Sandbox::new();
    for script in
        ["false\ntrue\n", "previewgate check --config missing.toml\n", "cargo test\n", "curl -s http://127.0.0.1:1/\n"]
    {
        assert!(!sandbox.command(script).output().unwrap().status.success(), "{script}");
    }
}
