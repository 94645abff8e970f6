//! How a TCP socket is set up, whichever side it belongs to. A leaf.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that vanished without a word is noticed after this much silence; a held poll is silent for ten seconds.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What the system may hold of bytes that it has not sent yet, for each connection. Without a bound that is megabytes
/// for each client that asks for a recording and does not read it, in memory that all connections of the machine share.
/// What is under way to a client that does read is not counted: nobody gets less for it. Half of it must have gone out
/// before more is taken; at `limits.body_min_rate` that is within `limits.body_idle_timeout`.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 32 * 1024;

/// Requests and answers are small and waited for, peers vanish, and some do not read. None of these options can fail on
/// a live socket, and none is worth a refusal.
pub(crate) fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_little_of_the_systems_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        prepare(&socket);
        let piece = vec![0; 16 * 1024];
        let mut taken = 0;
        // As long as the system takes it at once.
        let refusal = loop {
            match socket.try_write(&piece) {
                Ok(count) => taken += count,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(refusal, ErrorKind::WouldBlock);
        assert!((16 * 1024..512 * 1024).contains(&taken), "{taken}");
    }
}
