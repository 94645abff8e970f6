//! A Redis in memory, with faults: it speaks its protocol and knows the commands and scripts of the gateway, and no others.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use previewgate::store::DialStore;
use previewgate::stream::Stream;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::coverage::{Coverage, Place};

type Fields = HashMap<Vec<u8>, Vec<u8>>;
type Data = HashMap<Vec<u8>, Fields>;
/// What a connection sends, each with the instant at which it arrives.
type Answers = mpsc::UnboundedSender<(Instant, Vec<u8>)>;

/// See the module. Clones are the same Redis.
#[derive(Clone)]
pub(crate) struct FakeRedis(Arc<Mutex<State>>);

struct State {
    start: Instant,
    data: Data,
    /// What a replica has.
    replicated: Data,
    links: Vec<watch::Sender<Link>>,
    /// How often it was started.
    starts: watch::Sender<usize>,
    subscribers: Vec<Answers>,
    /// Counts of commands, by name.
    commands: HashMap<String, usize>,
    /// How far its clock was set, in milliseconds.
    ahead: i64,
    /// Its data was lost, and these agents were not written since.
    lost: HashSet<Vec<u8>>,
    coverage: Coverage,
}

/// The network between one gateway and Redis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Link {
    /// An answer takes this long. Half of it passes before the command is executed.
    Up(Duration),
    /// Connections are broken, and none can be made.
    Cut,
    /// Nothing arrives, and nothing breaks.
    Silent,
}

enum Reply {
    Nil,
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Reply>),
    Error(&'static str),
}

impl FakeRedis {
    /// An empty Redis for this many gateways.
    pub(crate) fn new(gateways: usize) -> Self {
        Self::covering(gateways, Coverage::default())
    }

    /// The same; notes awkward places.
    pub(super) fn covering(gateways: usize, coverage: Coverage) -> Self {
        let links = (0..gateways).map(|_| watch::Sender::new(Link::Up(Duration::from_millis(1)))).collect();
        Self(Arc::new(Mutex::new(State {
            start: Instant::now(),
            data: Data::new(),
            replicated: Data::new(),
            links,
            starts: watch::Sender::new(1),
            subscribers: Vec::new(),
            commands: HashMap::new(),
            ahead: 0,
            lost: HashSet::new(),
            coverage,
        })))
    }

    /// How the gateway of this number reaches it.
    pub(crate) fn dial(&self, gateway: usize) -> Arc<dyn DialStore> {
        Arc::new(Way { redis: self.clone(), gateway })
    }

    pub(crate) fn link(&self, gateway: usize, link: Link) {
        self.state().links[gateway].send_replace(link);
    }

    pub(super) fn link_of(&self, gateway: usize) -> Link {
        *self.state().links[gateway].borrow()
    }

    /// Sets its clock to so many milliseconds ahead of what it would show.
    pub(super) fn set_clock(&self, ahead: i64) {
        self.state().ahead = ahead;
    }

    /// Ends it and starts it again at once, with its data or without.
    pub(crate) fn restart(&self, keeps_data: bool) {
        let mut state = self.state();
        if !keeps_data {
            state.lose(Data::new());
        }
        state.subscribers.clear();
        state.starts.send_modify(|starts| *starts += 1);
    }

    /// Everything is gone, and no connection breaks.
    pub(crate) fn flush(&self) {
        self.state().lose(Data::new());
    }

    /// The replica has everything up to now.
    pub(crate) fn replicate(&self) {
        let mut state = self.state();
        state.replicated = state.data.clone();
    }

    /// The replica becomes the master.
    pub(crate) fn fail_over(&self) {
        let mut state = self.state();
        let replicated = state.replicated.clone();
        state.lose(replicated);
    }

    /// How many commands of this name were executed.
    pub(crate) fn executed(&self, name: &str) -> usize {
        self.state().commands.get(name).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// One connection, until the network breaks it or the gateway closes it. Commands are executed in order, and the network
    /// holds several at a time.
    async fn serve(self, stream: DuplexStream, link: watch::Receiver<Link>) {
        let (read, write) = tokio::io::split(stream);
        let (arrived, mut requests) = mpsc::unbounded_channel();
        let (answers, sent) = mpsc::unbounded_channel();
        let receive = async move {
            let mut read = BufReader::new(read);
            while let Ok(request) = request(&mut read).await {
                let _ = arrived.send((Instant::now(), request));
            }
        };
        let mut way = link.clone();
        let execute = async {
            while let Some((arrived, request)) = requests.recv().await {
                let half = half(&way);
                if pass(&mut way, arrived + half).await.is_err() {
                    return;
                }
                let mut answer = Vec::new();
                self.execute(&request, &answers).encode(&mut answer);
                // From here on it is executed, whether or not the gateway learns of it.
                let _ = answers.send((Instant::now() + half, answer));
            }
        };
        let (mut breaks, mut starts) = (link.clone(), self.state().starts.subscribe());
        tokio::select! {
            _ = starts.changed() => {}
            ((), ()) = async { tokio::join!(receive, execute) } => {}
            () = send(write, sent, link) => {}
            () = cut(&mut breaks) => {}
        }
    }

    fn execute(&self, request: &[Vec<u8>], published: &Answers) -> Reply {
        let mut state = self.state();
        let words: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let name = String::from_utf8_lossy(words[0]).to_uppercase();
        *state.commands.entry(name.clone()).or_default() += 1;
        match (name.as_str(), &words[1..]) {
            ("PING", []) => Reply::List(vec![Reply::text("pong"), Reply::text("")]),
            ("HELLO", _) => Reply::List(vec![Reply::text("mode"), Reply::text("standalone")]),
            ("SELECT" | "CLIENT", _) => Reply::text("OK"),
            ("HMGET", [key, fields @ ..]) => state.fields(key, fields),
            ("SUBSCRIBE", [channel]) => {
                state.subscribers.push(published.clone());
                Reply::List(vec![Reply::text("subscribe"), Reply::Text(channel.to_vec()), Reply::Number(1)])
            }
            ("EVAL", [script, _, key, arguments @ ..]) => {
                let script = String::from_utf8_lossy(script);
                if script.contains("Writes an agent's state") {
                    state.swap(key, arguments)
                } else if script.contains("Says whether this Redis") {
                    state.beat(key, arguments)
                } else if script.contains("Tries each command") {
                    Reply::List(Vec::new())
                } else {
                    Reply::Error("ERR a script that this Redis does not know")
                }
            }
            _ => Reply::Error("ERR a command that this Redis does not know"),
        }
    }
}

impl State {
    /// From now on this is all.
    fn lose(&mut self, left: Data) {
        for (key, fields) in std::mem::replace(&mut self.data, left) {
            match self.data.get(&key) {
                None => _ = self.lost.insert(key),
                Some(left) if left.get(&b"state"[..]) != fields.get(&b"state"[..]) => {
                    self.coverage.note(Place::WriteRolledBack);
                }
                Some(_) => {}
            }
        }
    }

    fn fields(&self, key: &[u8], fields: &[&[u8]]) -> Reply {
        let known = self.data.get(key);
        let field = |name: &&[u8]| known?.get(*name).cloned();
        Reply::List(fields.iter().map(|name| field(name).map_or(Reply::Nil, Reply::Text)).collect())
    }

    /// `swap.lua`
    fn swap(&mut self, key: &[u8], arguments: &[&[u8]]) -> Reply {
        let [before, tag, state, _lifetime, _ends, channel, agent] = arguments else {
            return Reply::Error("ERR arguments");
        };
        let known = self.data.get(key).and_then(|fields| fields.get(&b"tag"[..])).cloned().unwrap_or_default();
        if known != *before {
            if !known.is_empty() && !before.is_empty() {
                self.coverage.note(Place::WriteLost);
            }
            return self.fields(key, &[b"tag", b"state", b"seen"]);
        }
        if self.lost.remove(key) {
            self.coverage.note(Place::WrittenAfterLoss);
        }
        let fields = self.data.entry(key.to_vec()).or_default();
        for (name, value) in [(&b"seen"[..], &b"1"[..]), (b"tag", tag), (b"state", state)] {
            fields.insert(name.to_vec(), value.to_vec());
        }
        let message = [*agent, b" ", tag, b" ", state].concat();
        let message = [b"message".to_vec(), channel.to_vec(), message].map(Reply::Text);
        let mut encoded = Vec::new();
        Reply::List(message.into()).encode(&mut encoded);
        self.subscribers.retain(|subscriber| subscriber.send((Instant::now(), encoded.clone())).is_ok());
        Reply::Number(1)
    }

    /// `heartbeat.lua`
    fn beat(&mut self, key: &[u8], arguments: &[&[u8]]) -> Reply {
        let [own_key, secret, new_epoch, last_epoch, last, _lifetime] = arguments else {
            return Reply::Error("ERR arguments");
        };
        let now = Duration::from_millis(EPOCH.saturating_add_signed(self.ahead)) + self.start.elapsed();
        let own = self.data.entry(own_key.to_vec()).or_default();
        let kept = own.get(&b"number"[..]).map_or(0, |kept| number(kept));
        let count = (number(last) + 1).to_string().into_bytes();
        own.insert(b"number".to_vec(), count.clone());
        let fields = self.data.entry(key.to_vec()).or_default();
        if kept < number(last) && fields.get(&b"epoch"[..]).is_some_and(|epoch| epoch == last_epoch) {
            fields.remove(&b"epoch"[..]);
        }
        let mut agreed =
            |name: &[u8], proposal: &[u8]| fields.entry(name.to_vec()).or_insert_with(|| proposal.to_vec()).clone();
        let (secret, epoch) = (agreed(b"key", secret), agreed(b"epoch", new_epoch));
        let (seconds, micros) = (now.as_secs().to_string(), now.subsec_micros().to_string());
        let texts = [secret, epoch, count, seconds.into_bytes(), micros.into_bytes()];
        Reply::List(texts.map(Reply::Text).into())
    }
}

fn number(digits: &[u8]) -> u64 {
    String::from_utf8_lossy(digits).parse().unwrap_or_default()
}

/// Redis's clock at the beginning, in milliseconds since the Unix epoch.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;

impl Reply {
    fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.extend(b"$-1\r\n"),
            Self::Number(number) => out.extend(format!(":{number}\r\n").as_bytes()),
            Self::Error(text) => out.extend(format!("-{text}\r\n").as_bytes()),
            Self::Text(text) => {
                out.extend(format!("${}\r\n", text.len()).as_bytes());
                out.extend(text);
                out.extend(b"\r\n");
            }
            Self::List(replies) => {
                out.extend(format!("*{}\r\n", replies.len()).as_bytes());
                replies.iter().for_each(|reply| reply.encode(out));
            }
        }
    }
}

struct Way {
    redis: FakeRedis,
    gateway: usize,
}

impl DialStore for Way {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let mut link = self.redis.state().links[self.gateway].subscribe();
            pass(&mut link, Instant::now()).await.map_err(|()| io::ErrorKind::ConnectionRefused)?;
            let (theirs, ours) = tokio::io::duplex(1024 * 1024);
            tokio::spawn(self.redis.clone().serve(ours, link));
            Ok(Stream::Memory(theirs))
        })
    }
}

/// Waits until the link breaks.
async fn cut(link: &mut watch::Receiver<Link>) {
    if link.wait_for(|link| *link == Link::Cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Half of the time that an answer takes.
fn half(link: &watch::Receiver<Link>) -> Duration {
    match *link.borrow() {
        Link::Up(delay) => delay / 2,
        Link::Cut | Link::Silent => Duration::ZERO,
    }
}

/// Waits for the network; an error if it breaks the connection.
async fn pass(link: &mut watch::Receiver<Link>, due: Instant) -> Result<(), ()> {
    let mut breaks = link.clone();
    tokio::select! {
        () = cut(&mut breaks) => Err(()),
        () = async {
            tokio::time::sleep_until(due).await;
            let _ = link.wait_for(|link| *link != Link::Silent).await;
        } => Ok(()),
    }
}

async fn send(
    mut write: impl AsyncWrite + Unpin,
    mut sent: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut link: watch::Receiver<Link>,
) {
    while let Some((due, answer)) = sent.recv().await {
        if pass(&mut link, due).await.is_err() || write.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// One request: an array of strings.
async fn request(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<Vec<u8>>> {
    let count = length(read, b'*').await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; length(read, b'$').await?];
        read.read_exact(&mut word).await?;
        read.read_exact(&mut [0; 2]).await?;
        words.push(word);
    }
    Ok(words)
}

async fn length(read: &mut (impl AsyncBufRead + Unpin), mark: u8) -> io::Result<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await?;
    let digits = line.strip_prefix(char::from(mark)).ok_or(io::ErrorKind::InvalidData)?;
    digits.trim_end().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
