//! A real `redis-server`, and what can be done to it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use previewgate::simulator::self_signed;
use tempfile::TempDir;

/// Password of the ACL user.
pub(crate) const SECRET: &str = "s3cret-of-the-store";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Neither TLS nor passwords.
    Plain,
    /// TLS only, and one user who may do what `config/previewgate.toml` says.
    Protected,
}

/// A child process; killed when dropped.
pub(crate) struct RedisServer {
    /// Its files, and those that gateways need to reach it.
    pub(crate) directory: TempDir,
    kind: Kind,
    port: u16,
    child: Child,
}

impl RedisServer {
    /// Starts one, or says why not. In CI there must be one.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let in_ci = std::env::var_os("CI").is_some();
        if Command::new("redis-server").arg("--version").output().is_err() {
            assert!(!in_ci, "no redis-server in the PATH");
            eprintln!("skipped: no redis-server in the PATH");
            return None;
        }
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let directory = tempfile::tempdir().unwrap();
            configure(&directory, kind, port);
            let mut server = Self { child: spawn(&directory), directory, kind, port };
            if server.is_ready() {
                return Some(server);
            }
            if server.log().contains("without TLS support") && !in_ci {
                eprintln!("skipped: this redis-server speaks no TLS");
                return None;
            }
        }
        panic!("redis-server does not start")
    }

    /// `[previews.store]` for a gateway whose configuration is in the same directory.
    pub(crate) fn settings(&self) -> String {
        let port = self.port;
        match self.kind {
            Kind::Plain => format!("kind = \"redis\"\nurl = \"redis://127.0.0.1:{port}\"\n"),
            Kind::Protected => format!(
                "kind = \"redis\"\nurl = \"rediss://localhost:{port}\"\nusername = \"previewgate\"\n\
                 password_file = \"redis.password\"\nca = \"redis-ca.crt\"\n"
            ),
        }
    }

    /// An operator's connection; only to a plain one.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap().get_connection().unwrap()
    }

    /// Gone at once, with everything that was in it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Back at the same address, empty.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.directory);
        assert!(self.is_ready(), "{}", self.log());
    }

    /// Takes connections and answers nothing.
    pub(crate) fn stall(&self) {
        self.signal("-STOP");
    }

    /// The end of that.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// From now on it holds no more than this; "0" is no limit.
    pub(crate) fn limit_memory(&self, bytes: &str) {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut self.client()).unwrap();
    }

    /// Writes until it takes no more.
    pub(crate) fn fill(&self) {
        let mut client = self.client();
        let mut set = |number: u32, size: usize| {
            redis::cmd("SET").arg(format!("filler:{number}")).arg("x".repeat(size)).exec(&mut client)
        };
        let taken = (0..100_000).find(|number| set(*number, 16 * 1024).is_err());
        assert!(taken.is_some(), "it never got full");
    }

    fn signal(&self, signal: &str) {
        // The shell's own: the program of this name is in a package that not every machine has.
        let sent =
            Command::new("sh").args(["-c", "kill $0 $1", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Whether it listens; false if it ended instead.
    fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("redis-server neither listens nor ends: {}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Fails if it is dead already. A stalled one dies of this too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(directory: &TempDir, kind: Kind, port: u16) {
    let mut text = "bind 127.0.0.1\nsave \"\"\nappendonly no\nmaxmemory-policy noeviction\n".to_owned();
    let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    match kind {
        Kind::Plain => text.push_str(&format!("port {port}\n")),
        Kind::Protected => {
            let identity = self_signed(&["localhost"]).unwrap();
            write("redis.crt", &identity.certificate);
            write("redis.key", &identity.private_key);
            write("redis-ca.crt", &identity.ca);
            write("redis.password", &format!("{SECRET}\n"));
            let rights = documented_rights();
            text.push_str(&format!(
                "port 0\ntls-port {port}\ntls-cert-file redis.crt\ntls-key-file redis.key\n\
                 tls-ca-cert-file redis-ca.crt\ntls-auth-clients no\n\
                 user default off\nuser previewgate on >{SECRET} {rights}\n"
            ));
        }
    }
    write("redis.conf", &text);
}

/// What the example of a configuration says that the ACL user needs.
fn documented_rights() -> String {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/previewgate.toml");
    let example = fs::read_to_string(example).unwrap();
    let (_, rights) = example.split_once("It needs no more than `").unwrap();
    rights.split_once('`').unwrap().0.to_owned()
}

fn spawn(directory: &TempDir) -> Child {
    let log = fs::File::create(directory.path().join("redis.log")).unwrap();
    Command::new("redis-server")
        .arg("redis.conf")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
