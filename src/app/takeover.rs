//! `run --takeover`: a new process takes over from the one that runs, and no client notices.
//!
//! ```text
//! new process                                   running process
//!   HELLO                                  →
//!                                          ←    its listening sockets, and the file of its Unix socket
//!   reads its configuration and certificates; a failure changes nothing for the running process
//!   ready                                  →
//!                                          ←    state N K, and N bytes; K is the key of the hashes in
//!                                               them, in hexadecimal; from now on each change
//!   accepts connections, and puts its Unix socket in place
//!   serving                                →
//!                                               accepts no more, drains
//!                                          ←    released: the snapshot belongs to the new process
//!   number of a change that it has,        →
//!   or "N used" for a call above the limit
//!                                          ←    end of the stream: it has ended
//! ```
//!
//! The running process serves until the new one reports that it serves. From then on both have the same sockets and, for a
//! short time, the same previews.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, Interest, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use crate::admin::SocketFile;
use crate::gateway::Services;
use crate::socket_passing;
use crate::store::hex::{bytes, hex};
use crate::store::snapshot::{Exported, export, import};
use crate::store::{Acknowledged, Moment, NumberedChange, Succession};

/// The first line. Its number changes when an earlier version would not understand what follows.
const HELLO: &str = "previewgate takeover 1";
const READY: &str = "ready";
const SERVING: &str = "serving";
const RELEASED: &str = "released";
/// Follows the number of a call that exceeds `previews.calls_per_number`.
const USED: &str = " used";
/// Maximum wait for the other process, which may be busy with large files.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum size of the state, in bytes: about a million agents.
const MAX_STATE: u64 = 1 << 30;
/// Pause after a failed attempt. Without descriptors, the next attempt would fail at once.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Called when another process has taken over.
pub type HandedOver = Box<dyn FnOnce() + Send>;

/// The process from which this one takes over.
pub struct Predecessor {
    stream: BufReader<UnixStream>,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) offer: UnixListener,
    /// The file of its Unix socket for operators.
    pub(super) admin_socket: Option<SocketFile>,
}

impl Predecessor {
    /// Finds the gateway of this user that listens on `address`, and gets its sockets. `None` if there is none.
    ///
    /// # Errors
    /// When that gateway belongs to another user, or is too old to hand over.
    pub fn find(address: SocketAddr) -> io::Result<Option<Self>> {
        let mut stream = match socket_passing::connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            stream => stream?,
        };
        if !socket_passing::is_trusted(&stream)? {
            return Err(io::Error::other("it belongs to another user: start this one as the same user"));
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{HELLO}\n").as_bytes())?;
        let mut sockets = socket_passing::receive(&stream)?;
        let (Some(offer), Some(admin)) = (sockets.pop(), sockets.pop()) else {
            return Err(io::Error::other("its version cannot hand over: restart it instead"));
        };
        let listeners = sockets.into_iter().map(TcpListener::from).collect();
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        stream.read_line(&mut line)?;
        let admin_socket = read_socket_file(line.trim_end()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(Self { stream, listeners, admin: admin.into(), offer: offer.into(), admin_socket }))
    }

    /// Receives the state of the running process. Also returns the moment from which that process hands on each change.
    pub(super) fn with_state(mut self, services: &Services, snapshot: Option<&Path>) -> io::Result<(Self, Moment)> {
        let since = services.ledger.moment();
        self.stream.get_mut().write_all(format!("{READY}\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let (length, session_key) = announced_state(line.trim_end()).ok_or(io::ErrorKind::InvalidData)?;
        let mut state = Vec::new();
        self.stream.by_ref().take(length).read_to_end(&mut state)?;
        let exported = Exported { state, session_key };
        let agents = import(&exported, &services.ledger, snapshot, services.clock.now())
            .map_err(|fault| io::Error::other(fault.to_string()))?;
        tracing::info!(target: "previewgate", agents, "taking over from the running gateway");
        Ok((self, since))
    }

    /// Reports that this process serves, and applies the changes from the earlier one until that one has ended. Sends on
    /// `released` when the snapshot belongs to this process.
    pub(super) async fn follow(self, services: &Services, since: Moment, released: oneshot::Sender<()>) {
        let mut released = Some(released);
        let outcome = self.apply_changes(services, since, &mut released).await;
        drop(released);
        match outcome {
            Ok(()) => tracing::info!(target: "previewgate", "the earlier process has ended"),
            Err(error) => {
                tracing::warn!(target: "previewgate", %error, "the connection to the earlier process failed before that process ended");
            }
        }
    }

    async fn apply_changes(
        self,
        services: &Services,
        since: Moment,
        released: &mut Option<oneshot::Sender<()>>,
    ) -> io::Result<()> {
        let Self { stream, listeners, admin, offer, admin_socket: _ } = self;
        // The listeners of this process are other copies of these sockets.
        drop((listeners, admin, offer));
        let read_ahead = stream.buffer().to_vec();
        let stream = stream.into_inner();
        stream.set_nonblocking(true)?;
        let (read, mut write) = tokio::net::UnixStream::from_std(stream)?.into_split();
        let mut lines = tokio::io::BufReader::new(AsyncReadExt::chain(Cursor::new(read_ahead), read)).lines();
        write.write_all(format!("{SERVING}\n").as_bytes()).await?;
        while let Some(line) = lines.next_line().await? {
            if line == RELEASED {
                let _ = released.take().map(|released| released.send(()));
                continue;
            }
            let NumberedChange { number, agent, change, at } = NumberedChange::read(&line)?;
            let adopted = services.ledger.adopt(agent, change, at, since);
            let answer = if adopted { "" } else { USED };
            write.write_all(format!("{number}{answer}\n").as_bytes()).await?;
        }
        Ok(())
    }
}

/// The line after the sockets: the file of the operators' Unix socket, if there is one.
fn socket_file_line(file: Option<SocketFile>) -> String {
    file.map_or("no socket\n".to_owned(), |SocketFile(device, inode)| format!("socket {device} {inode}\n"))
}

fn read_socket_file(line: &str) -> Option<Option<SocketFile>> {
    if line == "no socket" {
        return Some(None);
    }
    let (device, inode) = line.strip_prefix("socket ")?.split_once(' ')?;
    Some(Some(SocketFile(device.parse().ok()?, inode.parse().ok()?)))
}

/// The length of the state and the key of its hashes, from the line before it.
fn announced_state(line: &str) -> Option<(u64, Vec<u8>)> {
    let (length, key) = line.strip_prefix("state ")?.split_once(' ')?;
    let length = length.parse().ok().filter(|length| *length <= MAX_STATE)?;
    Some((length, bytes(key)?))
}

/// The sockets and the state that a running process offers to its successor.
pub(super) struct Offer {
    listener: tokio::net::UnixListener,
    /// The listeners of the workers, the admin listener, and the socket of this offer; in this order.
    sockets: Vec<OwnedFd>,
    /// The file of the Unix socket for operators. Its descriptor is not passed, because the new configuration may name
    /// another file.
    admin_socket: Option<SocketFile>,
    services: Arc<Services>,
}

/// The process that has taken over. It accepts connections.
pub(super) struct Successor {
    lines: Lines<tokio::io::BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    changes: UnboundedReceiver<NumberedChange>,
    acknowledge: watch::Sender<Acknowledged>,
}

impl Offer {
    /// Offers `listeners` and `admin` at `offer`.
    pub(super) fn new(
        offer: UnixListener,
        listeners: &[TcpListener],
        admin: BorrowedFd<'_>,
        admin_socket: Option<SocketFile>,
        services: &Arc<Services>,
    ) -> io::Result<Self> {
        offer.set_nonblocking(true)?;
        let all = listeners.iter().map(AsFd::as_fd).chain([admin, offer.as_fd()]);
        let sockets = all.map(|socket| socket.try_clone_to_owned()).collect::<Result<_, _>>()?;
        let services = Arc::clone(services);
        Ok(Self { listener: tokio::net::UnixListener::from_std(offer)?, sockets, admin_socket, services })
    }

    /// Waits until another process has taken over. A failed attempt is logged, and the next one is awaited.
    pub(super) async fn taken(&self) -> Successor {
        loop {
            let outcome = match self.listener.accept().await {
                Ok((stream, _)) => self.hand_over(stream).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(successor) => return successor,
                Err(error) => {
                    self.services.ledger.hand_on(None);
                    tracing::warn!(target: "previewgate", %error, "a takeover by another process failed: this process continues to serve");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn hand_over(&self, stream: tokio::net::UnixStream) -> io::Result<Successor> {
        if !socket_passing::is_trusted(&stream)? {
            return Err(io::Error::other("it belongs to another user"));
        }
        let (read, mut write) = stream.into_split();
        let mut lines = tokio::io::BufReader::new(read).lines();
        expect(&mut lines, HELLO).await?;
        tracing::info!(target: "previewgate", "another process begins to take over");
        let stream: &tokio::net::UnixStream = write.as_ref();
        stream.async_io(Interest::WRITABLE, || socket_passing::send(stream, &self.sockets)).await?;
        write.write_all(socket_file_line(self.admin_socket).as_bytes()).await?;
        expect(&mut lines, READY).await?;
        let (succession, changes, acknowledge) = Succession::new();
        // Before the state is collected, so that each change is in the state, or handed on, or both.
        self.services.ledger.hand_on(Some(succession));
        let exported = export(&self.services.ledger, self.services.clock.now())?;
        let mut successor = Successor { lines, write, changes, acknowledge };
        tokio::time::timeout(PATIENCE, successor.hand_on_until_it_serves(&exported)).await??;
        Ok(successor)
    }
}

async fn expect(lines: &mut Lines<tokio::io::BufReader<OwnedReadHalf>>, expected: &str) -> io::Result<()> {
    match tokio::time::timeout(PATIENCE, lines.next_line()).await?? {
        Some(line) if line == expected => Ok(()),
        Some(_) => Err(io::Error::other("its message is not part of this protocol")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Successor {
    /// Sends the state, and then each change, until the other process serves.
    async fn hand_on_until_it_serves(&mut self, exported: &Exported) -> io::Result<()> {
        let Exported { state, session_key } = exported;
        self.write.write_all(format!("state {} {}\n", state.len(), hex(session_key)).as_bytes()).await?;
        self.write.write_all(state).await?;
        loop {
            tokio::select! {
                Some(change) = self.changes.recv() => self.write.write_all(change.to_line()?.as_bytes()).await?,
                line = self.lines.next_line() => match line? {
                    Some(line) if line == SERVING => {
                        self.acknowledge.send_modify(|known| known.serves = true);
                        return Ok(());
                    }
                    Some(line) => self.note(&line)?,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            }
        }
    }

    /// Hands on changes until the last one, and tells the other process when the snapshot is released.
    pub(super) async fn hand_on(mut self, mut released: oneshot::Receiver<()>) -> io::Result<()> {
        let mut is_released = false;
        loop {
            tokio::select! {
                _ = &mut released, if !is_released => {
                    is_released = true;
                    self.write.write_all(format!("{RELEASED}\n").as_bytes()).await?;
                }
                change = self.changes.recv() => match change {
                    Some(change) => self.write.write_all(change.to_line()?.as_bytes()).await?,
                    None => return Ok(()),
                },
                line = self.lines.next_line() => match line? {
                    Some(line) => self.note(&line)?,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            }
        }
    }

    fn note(&self, line: &str) -> io::Result<()> {
        let (number, used) = match line.strip_suffix(USED) {
            Some(number) => (number, true),
            None => (line, false),
        };
        let number = number.parse().map_err(|_| io::Error::other("its message is not part of this protocol"))?;
        self.acknowledge.send_modify(|known| known.note(number, used));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::config::{self, Files};
    use crate::preview::{AgentId, Announcement, Change, ControlId, DialedNumber, SystemClock};
    use crate::telemetry::Metrics;

    /// Services whose state is larger than the buffers of a socket.
    fn services() -> Arc<Services> {
        let text = "listener.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\n\
                    upstream.endpoints = [\"http://127.0.0.1:1\"]\n";
        let config = config::parse(text, Path::new("."), Files::Check).unwrap();
        let services = Services::new(&config, Arc::new(SystemClock::new()), Arc::new(Metrics::new())).unwrap();
        for agent in 101..1_101 {
            let numbers = (0..100).map(|number| DialedNumber::new(format!("8888{agent}{number}"))).collect();
            let preview = Announcement { control_id: ControlId(1), numbers, shown: Vec::new() };
            let agent = AgentId::try_from(agent).unwrap();
            services.ledger.local().apply(agent, [Change::Shown(preview)], services.clock.now());
        }
        Arc::new(services)
    }

    /// Connects as a process that wants to take over, and asks for the state. Reads the byte that comes with the sockets.
    async fn ask_for_state(path: &Path) -> UnixStream {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(format!("{HELLO}\n{READY}\n").as_bytes()).await.unwrap();
        // One byte alone: a read ends at the byte that carries the sockets, and tokio takes a short read for the last one.
        assert_eq!(stream.read_u8().await.unwrap(), b's');
        let mut no_socket = vec![0; socket_file_line(None).len()];
        stream.read_exact(&mut no_socket).await.unwrap();
        assert_eq!(read_socket_file(String::from_utf8(no_socket).unwrap().trim_end()), Some(None));
        stream
    }

    /// Reads the state, and reports that it serves.
    async fn take_over(stream: UnixStream) -> UnixStream {
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let (length, _) = announced_state(line.trim_end()).unwrap();
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await.unwrap();
        stream.write_all(format!("{SERVING}\n").as_bytes()).await.unwrap();
        stream.into_inner()
    }

    #[tokio::test]
    async fn a_process_that_does_not_read_the_state_does_not_block_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("offer");
        let (socket, admin) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let offer = Offer::new(socket, &[], admin.as_fd(), None, &services()).unwrap();
        let processes = async {
            let mut stuck = ask_for_state(&path).await;
            stuck.read_exact(&mut [0; "state".len()]).await.unwrap();
            // The time for the first process ends at once. The second process has the whole time again.
            tokio::time::pause();
            tokio::time::advance(PATIENCE).await;
            tokio::time::resume();
            let next = take_over(ask_for_state(&path).await).await;
            (stuck, next)
        };
        let both = async { tokio::join!(offer.taken(), processes) };
        assert!(tokio::time::timeout(PATIENCE * 2, both).await.is_ok(), "the first process is still waited for");
    }
}
