//! Handshakes take turns, so that requests do not wait for a crowd of them.
//!
//! A handshake costs as much as dozens of requests; an RSA signature alone is most of a millisecond. After a restart
//! thousands of clients connect in the same second. If a worker took all steps that are ready one after the other, the
//! callout that comes in meanwhile would wait for all of them. So there is one step at a time, and after each the worker
//! looks at its sockets again and serves what is ready.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

/// The turns of one worker, first come, first served.
pub(super) struct Turns(Semaphore);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }

    /// Runs `work` to its end, step by step. While it waits for its client, the turn is somebody else's.
    pub(super) async fn run<F: Future + Unpin>(&self, mut work: F) -> F::Output {
        let progress = Arc::new(Progress(Notify::new()));
        let waker = Waker::from(Arc::clone(&progress));
        loop {
            let turn = self.0.acquire().await;
            let step = Pin::new(&mut work).poll(&mut Context::from_waker(&waker));
            // tokio comes back to a task that yields only when it has looked at the sockets.
            yield_now().await;
            drop(turn);
            match step {
                Poll::Ready(output) => return output,
                Poll::Pending => progress.0.notified().await,
            }
        }
    }
}

/// There is something to do for a handshake that had nothing to do.
struct Progress(Notify);

impl Wake for Progress {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::{LocalSet, spawn_local};

    /// How many of 40 handshakes that are all ready at once come before a request that comes in meanwhile.
    async fn handshakes_before_request(turns: Option<Rc<Turns>>) -> usize {
        let done = Rc::new(Cell::new(0));
        let (handshakes_done, handshake_done) = (Rc::clone(&done), move || done.set(done.get() + 1));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = spawn_local(async move {
            socket.read_u8().await.unwrap();
            handshakes_done.get()
        });
        yield_now().await; // the request is waited for
        for _ in 0..40 {
            let (turns, done) = (turns.clone(), handshake_done.clone());
            spawn_local(async move {
                let work = Box::pin(async { done() });
                match turns {
                    Some(turns) => turns.run(work).await,
                    None => work.await,
                }
            });
        }
        client.write_all(b"x").await.unwrap();
        request.await.unwrap()
    }

    #[tokio::test]
    async fn a_request_does_not_wait_for_a_crowd() {
        let in_turns = LocalSet::new().run_until(handshakes_before_request(Some(Rc::new(Turns::new())))).await;
        assert!(in_turns < 5, "{in_turns}");
        let otherwise = LocalSet::new().run_until(handshakes_before_request(None)).await;
        assert!(otherwise > 30, "without turns it does wait: {otherwise}");
    }

    #[tokio::test]
    async fn who_waits_for_his_client_keeps_nobody() {
        let turns = Turns::new();
        let (mut client, mut server) = tokio::io::duplex(16);
        let slow = turns.run(Box::pin(async move { server.read_u8().await.unwrap() }));
        let quick = async {
            turns.run(std::future::ready(())).await;
            client.write_u8(7).await.unwrap();
        };
        assert_eq!(tokio::join!(slow, quick).0, 7);
    }
}
