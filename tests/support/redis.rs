//! A real `redis-server`, and ways to kill, stall, fill and restart it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use previewgate::simulator::self_signed;
use tempfile::TempDir;

use super::{PATIENCE, Port, skip};

/// Password of the ACL user.
pub(crate) const SECRET: &str = "s3cret-of-the-store";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Neither TLS nor passwords.
    Plain,
    /// TLS only, and one user who may do what `config/previewgate.toml` says.
    Protected,
    /// A node of a cluster, without slots. See [`Cluster`].
    Cluster,
    /// Like [`Kind::Plain`]. What it has answered is on the disk.
    Durable,
}

/// A child process; killed when dropped.
pub(crate) struct RedisServer {
    /// Its files, and those that gateways need to reach it.
    pub(crate) directory: TempDir,
    program: &'static str,
    kind: Kind,
    /// Stays reserved when the server ends: it comes back at the same address.
    port: Port,
    /// Of a cluster.
    bus: Port,
    child: Child,
}

impl RedisServer {
    /// Starts one; nothing, and a message, where there is none. In CI there must be one.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        if !is_installed("redis-server") {
            skip("no redis-server in the PATH");
            return None;
        }
        Self::run("redis-server", kind)
    }

    /// A Valkey instead; nothing, and a message, where there is none. Not each Debian has it, so CI need not.
    #[allow(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    pub(crate) fn valkey(kind: Kind) -> Option<Self> {
        if !is_installed("valkey-server") {
            eprintln!("SKIPPED: no valkey-server in the PATH");
            return None;
        }
        Self::run("valkey-server", kind)
    }

    fn run(program: &'static str, kind: Kind) -> Option<Self> {
        let (port, bus, directory) = (Port::reserve(), Port::reserve(), tempfile::tempdir().unwrap());
        configure(&directory, kind, [port.address.port(), bus.address.port()]);
        let child = spawn(program, &directory);
        let mut server = Self { child, directory, program, kind, port, bus };
        if !server.is_ready() {
            assert!(server.log().contains("without TLS support"), "redis-server does not start: {}", server.log());
            skip("this redis-server speaks no TLS");
            return None;
        }
        Some(server)
    }

    /// `[previews.store]` for a gateway.
    pub(crate) fn settings(&self) -> String {
        let (address, port, directory) = (self.address(), self.address().port(), self.directory.path().display());
        let store = match self.kind {
            Kind::Plain | Kind::Cluster | Kind::Durable => format!("kind = \"redis\"\nurl = \"redis://{address}\"\n"),
            Kind::Protected => format!(
                "kind = \"redis\"\nurl = \"rediss://localhost:{port}\"\nusername = \"previewgate\"\n\
                 password_file = \"{directory}/redis.password\"\nca = \"{directory}/redis-ca.crt\"\n"
            ),
        };
        format!("[previews.store]\n{store}")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// An operator's connection; only to a plain one.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(format!("redis://{}", self.address())).unwrap().get_connection().unwrap()
    }

    /// Ends it at once. Everything in it is lost, unless it is durable.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same address, with what is on its disk: nothing, unless it is durable.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.program, &self.directory);
        assert!(self.is_ready(), "{}", self.log());
    }

    /// Saves what it has, and ends. After the next start it loads that until [`Self::loads_fast`].
    pub(crate) fn end_and_load_slowly(&mut self) {
        let mut client = self.client();
        let fill = "for i = 1, 20000 do redis.call('SET', 'filler:' .. i, string.rep('x', 100)) end";
        redis::cmd("EVAL").arg(fill).arg(0).exec(&mut client).unwrap();
        redis::cmd("SAVE").exec(&mut client).unwrap();
        self.kill();
        let file = self.directory.path().join("redis.conf");
        // A pause of 2 ms for each key; a look at connections for each few of them.
        let slow = "key-load-delay 2000\nloading-process-events-interval-bytes 1024\n";
        fs::write(&file, fs::read_to_string(&file).unwrap() + slow).unwrap();
    }

    /// Loads the rest at once. Works while it loads.
    pub(crate) fn loads_fast(&self) {
        let set = || redis::cmd("CONFIG").arg("SET").arg("key-load-delay").arg("0").exec(&mut self.client());
        set().unwrap();
    }

    /// From now on it accepts connections and answers nothing.
    pub(crate) fn stall(&self) {
        super::process::signal(self.child.id(), "STOP");
    }

    /// Ends the stall.
    pub(crate) fn resume(&self) {
        super::process::signal(self.child.id(), "CONT");
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

    /// Whether it listens; false if it ended instead.
    fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(self.address()).is_ok() {
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

/// A cluster of one node that has everything, its replica, and one that has nothing and knows where it is.
pub(crate) struct Cluster {
    pub(crate) master: RedisServer,
    replica: RedisServer,
    empty: RedisServer,
}

impl Cluster {
    /// Starts one; nothing, and a message, where there is no Redis.
    pub(crate) fn start() -> Option<Self> {
        let [master, replica, empty] = [(); 3].map(|()| RedisServer::start(Kind::Cluster));
        let cluster = Self { master: master?, replica: replica?, empty: empty? };
        let slots = ["ADDSLOTSRANGE", "0", "16383"];
        redis::cmd("CLUSTER").arg(&slots).exec(&mut cluster.master.client()).unwrap();
        for other in [&cluster.replica, &cluster.empty] {
            let (port, bus) = (cluster.master.port.address.port(), cluster.master.bus.address.port());
            let meet = ["MEET", "127.0.0.1", &port.to_string(), &bus.to_string()];
            redis::cmd("CLUSTER").arg(&meet).exec(&mut other.client()).unwrap();
        }
        Some(cluster)
    }

    /// `[previews.store]` for a gateway, which does not name the master.
    pub(crate) fn settings(&self) -> String {
        format!(
            "[previews.store]\nkind = \"redis\"\nurl = \"redis+cluster://{},{}\"\nprefix = \"{{previewgate}}:\"\n",
            self.empty.address(),
            self.replica.address()
        )
    }

    /// Whether all nodes know each other, and who has the slots. Makes the replica one as soon as it can be.
    pub(crate) fn is_complete(&self) -> bool {
        let ask = |node: &RedisServer, words: &[&str]| -> redis::RedisResult<String> {
            redis::cmd(words[0]).arg(&words[1..]).query(&mut node.client())
        };
        if ask(&self.replica, &["INFO", "replication"]).unwrap().contains("role:master") {
            let master = ask(&self.master, &["CLUSTER", "MYID"]).unwrap();
            // Fails as long as it does not know the master.
            let _ = ask(&self.replica, &["CLUSTER", "REPLICATE", &master]);
            return false;
        }
        let knows = |node: &RedisServer| {
            let info = ask(node, &["CLUSTER", "INFO"]).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        let link = ask(&self.replica, &["INFO", "replication"]).unwrap();
        link.contains("master_link_status:up") && [&self.master, &self.replica, &self.empty].into_iter().all(knows)
    }

    /// The master ends at once, and the replica takes its place.
    pub(crate) fn fail_over(&mut self) {
        self.master.kill();
        redis::cmd("CLUSTER").arg(&["FAILOVER", "TAKEOVER"]).exec(&mut self.replica.client()).unwrap();
    }
}

/// A sentinel that watches one master; killed when dropped.
pub(crate) struct Sentinel {
    port: Port,
    child: Child,
    _directory: TempDir,
}

impl Sentinel {
    /// Watches this server under the name `previews`.
    pub(crate) fn watch(server: &RedisServer) -> Self {
        let (port, directory) = (Port::reserve(), tempfile::tempdir().unwrap());
        let master = server.address().port();
        let text = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor previews 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds previews 300\nsentinel failover-timeout previews 2000\n",
            port.address.port()
        );
        fs::write(directory.path().join("redis.conf"), text).unwrap();
        let log = fs::File::create(directory.path().join("redis.log")).unwrap();
        let child = Command::new("redis-server")
            .args(["redis.conf", "--sentinel"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { port, child, _directory: directory }
    }

    /// `[previews.store]` for a gateway.
    pub(crate) fn settings(&self) -> String {
        format!("[previews.store]\nkind = \"redis\"\nurl = \"redis+sentinel://{}/previews\"\n", self.port.address)
    }

    /// How many replicas it knows of the master; none before it answers.
    pub(crate) fn replicas(&self) -> Option<usize> {
        let client = redis::Client::open(format!("redis://{}", self.port.address)).ok()?;
        let mut connection = client.get_connection().ok()?;
        let replicas: Vec<redis::Value> =
            redis::cmd("SENTINEL").arg("replicas").arg("previews").query(&mut connection).ok()?;
        Some(replicas.len())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RedisServer {
    /// Becomes a replica of `master`, and has everything that the master has when this returns.
    pub(crate) fn follow(&self, master: &RedisServer) {
        let port = master.address().port().to_string();
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec(&mut self.client()).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Fails if it is dead already. A stalled one dies of this too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn configure(directory: &TempDir, kind: Kind, [port, bus]: [u16; 2]) {
    let mut text = "bind 127.0.0.1\nsave \"\"\nappendonly no\nmaxmemory-policy noeviction\n".to_owned();
    let write = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    match kind {
        Kind::Plain => text.push_str(&format!("port {port}\n")),
        Kind::Durable => {
            text = text.replace("appendonly no", "appendonly yes");
            text.push_str(&format!("port {port}\nappendfsync always\n"));
        }
        Kind::Cluster => text.push_str(&format!("port {port}\ncluster-enabled yes\ncluster-port {bus}\n")),
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
    let mut quoted = example.split('`');
    quoted.find(|text| text.starts_with("~previewgate:")).expect("the rights of the ACL user").to_owned()
}

fn spawn(program: &str, directory: &TempDir) -> Child {
    let log = fs::File::create(directory.path().join("redis.log")).unwrap();
    Command::new(program)
        .arg("redis.conf")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
