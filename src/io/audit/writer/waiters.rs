//! The callouts of one thread that wait for their records.
//!
//! A runtime of one thread is woken from another thread by a system call, for each task. So the writer wakes one callout of
//! each thread and batch. That callout wakes the others on its own thread, where it costs no system call. A thread that is
//! about to wait wakes them as well ([`Waiters::wake_settled`]): none depends on the callout that was woken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The record of a callout was not confirmed. It may still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unconfirmed;

/// The callouts of a thread.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Callouts whose records are settled, and that were not woken yet.
    due: Vec<Waker>,
}

#[derive(Debug)]
enum Slot {
    /// The record is not written yet. The waker is absent until the callout waits for the first time.
    Waiting(Option<Waker>),
    /// The record is written, under this number, or will not be waited for.
    Settled(Result<u64, Unconfirmed>),
    /// The callout does not wait any more.
    Gone,
}

/// The writer's part: settles one callout. It counts as unconfirmed when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    waiters: Arc<Waiters>,
    number: u64,
    settled: bool,
}

/// The callout's part: the number of its record, as soon as it is written.
#[derive(Debug)]
#[must_use = "a callout waits for its record before it is sent"]
pub(crate) struct Confirmation {
    waiters: Arc<Waiters>,
    number: u64,
}

impl Waiters {
    /// One more callout waits.
    pub(super) fn wait(self: &Arc<Self>) -> (Ticket, Confirmation) {
        let mut state = self.lock();
        let number = state.first + state.slots.len() as u64;
        state.slots.push_back(Slot::Waiting(None));
        drop(state);
        let ticket = Ticket { waiters: Arc::clone(self), number, settled: false };
        (ticket, Confirmation { waiters: Arc::clone(self), number })
    }

    /// Wakes all callouts whose records are settled. To be called by their own thread.
    pub(super) fn wake_settled(&self) {
        wake_all(self.lock());
    }

    /// Wakes one callout whose record is settled: it wakes the others. To be called by the writer.
    fn wake_one(&self) {
        let one = self.lock().due.pop();
        if let Some(waker) = one {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the callouts whose records are settled, without the lock: a task that is woken may take it at once.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let due = std::mem::take(&mut state.due);
    drop(state);
    due.into_iter().for_each(Waker::wake);
}

impl State {
    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let position = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(position)
    }

    fn settle(&mut self, number: u64, result: Result<u64, Unconfirmed>) {
        let Some(slot) = self.slot(number) else { return };
        match std::mem::replace(slot, Slot::Settled(result)) {
            Slot::Waiting(waker) => self.due.extend(waker),
            // Nobody takes the result.
            Slot::Gone => self.leave(number),
            Slot::Settled(_) => {}
        }
    }

    /// The callout needs its slot no more.
    fn leave(&mut self, number: u64) {
        if let Some(slot) = self.slot(number) {
            *slot = Slot::Gone;
        }
        while let Some(Slot::Gone) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

impl Ticket {
    fn settle(mut self, seq: u64) {
        self.settled = true;
        self.waiters.lock().settle(self.number, Ok(seq));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.waiters.lock().settle(self.number, Err(Unconfirmed));
            self.waiters.wake_one();
        }
    }
}

/// Settles these callouts, each with the number of its record, and wakes each thread once.
pub(super) fn confirm(tickets: impl Iterator<Item = (u64, Ticket)>) {
    let mut threads: Vec<Arc<Waiters>> = Vec::new();
    for (seq, ticket) in tickets {
        if !threads.iter().any(|known| Arc::ptr_eq(known, &ticket.waiters)) {
            threads.push(Arc::clone(&ticket.waiters));
        }
        ticket.settle(seq);
    }
    threads.iter().for_each(|waiters| waiters.wake_one());
}

impl Future for Confirmation {
    type Output = Result<u64, Unconfirmed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.waiters.lock();
        let result = match state.slot(self.number) {
            Some(Slot::Waiting(waker)) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            Some(Slot::Settled(result)) => *result,
            Some(Slot::Gone) | None => Err(Unconfirmed),
        };
        wake_all(state);
        Poll::Ready(result)
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        let mut state = self.waiters.lock();
        state.leave(self.number);
        // It may be the one that the writer woke.
        wake_all(state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A callout that counts how often it is woken.
    struct Callout {
        confirmation: Confirmation,
        counter: Arc<Counter>,
    }

    impl Callout {
        fn new(confirmation: Confirmation) -> Self {
            let mut callout = Self { confirmation, counter: Arc::default() };
            assert_eq!(callout.poll(), Poll::Pending);
            callout
        }

        fn poll(&mut self) -> Poll<Result<u64, Unconfirmed>> {
            let waker = Waker::from(Arc::clone(&self.counter));
            Pin::new(&mut self.confirmation).poll(&mut Context::from_waker(&waker))
        }

        fn was_woken(&self) -> bool {
            self.counter.0.load(Ordering::SeqCst) > 0
        }
    }

    fn waiting(waiters: &Arc<Waiters>, count: usize) -> (Vec<Ticket>, Vec<Callout>) {
        let all = std::iter::repeat_with(|| waiters.wait()).take(count);
        all.map(|(ticket, confirmation)| (ticket, Callout::new(confirmation))).unzip()
    }

    fn woken(callouts: &[Callout]) -> usize {
        callouts.iter().filter(|callout| callout.was_woken()).count()
    }

    fn is_empty(waiters: &Waiters) -> bool {
        let state = waiters.lock();
        state.slots.is_empty() && state.due.is_empty()
    }

    #[test]
    fn a_batch_wakes_one_callout_of_each_thread_and_that_one_wakes_the_others() {
        let threads: [Arc<Waiters>; 2] = Default::default();
        let (tickets, mut callouts): (Vec<_>, Vec<_>) = threads.iter().map(|waiters| waiting(waiters, 3)).unzip();
        let (late, mut later) = waiting(&threads[0], 1);
        confirm((7..).zip(tickets.into_iter().flatten()));
        for (thread, callouts) in callouts.iter_mut().enumerate() {
            assert_eq!(woken(callouts), 1, "one system call");
            let first = callouts.iter_mut().find(|callout| callout.was_woken()).unwrap();
            assert!(first.poll().is_ready());
            assert_eq!(woken(callouts), 3, "by the first one");
            for (position, callout) in callouts.iter_mut().enumerate() {
                assert_eq!(callout.poll(), Poll::Ready(Ok((7 + 3 * thread + position) as u64)));
            }
        }
        assert_eq!((woken(&later), later[0].poll()), (0, Poll::Pending), "the next batch has it");
        confirm((20..).zip(late));
        assert_eq!((woken(&later), later[0].poll()), (1, Poll::Ready(Ok(20))));
        drop((callouts, later));
        assert!(threads.iter().all(|waiters| is_empty(waiters)));
    }

    /// The client of the callout that was woken may be gone, and a thread that is about to wait need not know which it was.
    #[test]
    fn the_others_do_not_depend_on_the_callout_that_was_woken() {
        for end in [|_: &Waiters, woken: Callout| drop(woken), |waiters: &Waiters, _| waiters.wake_settled()] {
            let waiters = Arc::default();
            let (tickets, mut callouts) = waiting(&waiters, 4);
            // One does not wait any more, and never gets its result.
            drop(callouts.remove(1));
            confirm((1..).zip(tickets));
            let position = callouts.iter().position(Callout::was_woken).unwrap();
            end(&waiters, callouts.remove(position));
            assert_eq!(woken(&callouts), 2);
            assert!(callouts.iter_mut().all(|callout| callout.poll().is_ready()));
            drop(callouts);
            assert!(is_empty(&waiters));
        }
    }

    #[test]
    fn a_ticket_that_is_dropped_confirms_nothing() {
        let waiters = Arc::default();
        let (mut tickets, mut callouts) = waiting(&waiters, 2);
        drop(tickets.remove(0));
        assert_eq!((callouts[0].was_woken(), callouts[0].poll()), (true, Poll::Ready(Err(Unconfirmed))));
        assert_eq!((callouts[1].was_woken(), callouts[1].poll()), (false, Poll::Pending));
        confirm((1..).zip(tickets));
        assert_eq!(callouts[1].poll(), Poll::Ready(Ok(1)));
    }

    /// As in the gateway: a runtime of one thread, and a writer.
    #[tokio::test]
    async fn every_callout_of_a_runtime_goes_on() {
        const COUNT: u64 = 2_000;
        let (send, tickets) = std::sync::mpsc::channel::<Ticket>();
        let writer = std::thread::spawn(move || {
            let mut seq = 0;
            while let Ok(first) = tickets.recv() {
                let batch: Vec<_> = std::iter::once(first).chain(tickets.try_iter()).collect();
                let count = batch.len() as u64;
                confirm((seq..).zip(batch));
                seq += count;
            }
        });
        let waiters: Arc<Waiters> = Arc::default();
        let callouts: Vec<_> = (0..COUNT)
            .map(|_| {
                let (ticket, confirmation) = waiters.wait();
                send.send(ticket).unwrap();
                tokio::spawn(confirmation)
            })
            .collect();
        drop(send);
        let all = futures_util::future::join_all(callouts);
        let all = tokio::time::timeout(Duration::from_secs(60), all).await.expect("one was not woken");
        for (seq, result) in (0..).zip(all) {
            assert_eq!(result.unwrap(), Ok(seq));
        }
        writer.join().unwrap();
        assert!(is_empty(&waiters));
    }
}
