//! What fails in a run of the simulation, and how it is mended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::coverage::Place;
use super::{GATEWAYS, Gateway, Kind, Link, Scene, SimulatedClock, start};
use crate::support::Random;

/// How long an answer of a Redis takes that is near.
pub(super) const NEAR: Duration = Duration::from_millis(1);
const HOUR: u64 = 3_600_000;

impl Scene {
    /// Something fails, and is mended.
    pub(super) async fn fault(&self, random: &mut Random) {
        let (gateway, lasts, began) = (random.place(GATEWAYS), random.millis(3000), Instant::now());
        match random.below(if self.kind == Kind::Available { 12 } else { 9 }) {
            0 => self.during(gateway, Link::Cut, lasts).await,
            // As for a gateway that stands still: what it has sent arrives when it goes on.
            1 => self.during(gateway, Link::Silent, lasts).await,
            2 => self.during(gateway, Link::Up(Duration::from_millis(50 + random.below(250))), lasts).await,
            3 => {
                (0..=GATEWAYS).for_each(|gateway| self.redis.link(gateway, Link::Cut));
                sleep(lasts).await;
                (0..=GATEWAYS).for_each(|gateway| self.redis.link(gateway, Link::Up(NEAR)));
            }
            4 => self.redis.restart(true),
            5 => self.set_clock(gateway, random),
            6 => self.redis.set_clock(random.below(3000) as i64 - 1500),
            7 => self.another_joins(lasts, random).await,
            8 => self.crash(gateway, lasts).await,
            9 => self.redis.restart(false),
            10 => self.redis.flush(),
            _ => {
                self.redis.replicate();
                sleep(lasts).await;
                self.redis.fail_over();
            }
        }
        self.troubles.borrow_mut().add(began, Instant::now());
    }

    async fn during(&self, gateway: usize, link: Link, lasts: Duration) {
        self.redis.link(gateway, link);
        sleep(lasts).await;
        self.redis.link(gateway, Link::Up(NEAR));
    }

    fn set_clock(&self, gateway: usize, random: &mut Random) {
        self.clocks.borrow()[gateway].set_wall(wrong(random));
        self.coverage.note(Place::ClockSet);
    }

    /// A gateway starts whose clock is wrong, and which may not reach Redis at first.
    async fn another_joins(&self, lasts: Duration, random: &mut Random) {
        if self.gateways.borrow().len() > GATEWAYS {
            return;
        }
        let link = [Link::Up(NEAR), Link::Cut, Link::Silent][random.place(3)];
        self.redis.link(GATEWAYS, link);
        let clock = Arc::new(SimulatedClock::new(wrong(random)));
        let gateway = Gateway::new(start(&self.platform, &self.redis, self.kind, GATEWAYS, &clock));
        self.clocks.borrow_mut().push(clock);
        self.gateways.borrow_mut().push(gateway);
        self.joined.set(Some(Instant::now()));
        sleep(lasts).await;
        self.redis.link(GATEWAYS, Link::Up(NEAR));
    }

    /// A gateway ends as by `kill -9`, and another process takes its place after a while, on the same machine.
    async fn crash(&self, gateway: usize, lasts: Duration) {
        let before = Rc::clone(&self.gateways.borrow()[gateway]);
        if !before.is_sharing() {
            for (place, event, gateway) in self.unshared.borrow().iter() {
                if Rc::ptr_eq(gateway, &before) {
                    self.histories[*place].borrow_mut().is_perhaps_lost(*event);
                }
            }
        }
        before.lab.kill();
        before.crashed.send_replace(true);
        self.coverage.note(Place::Crashed);
        sleep(lasts).await;
        let clock = Arc::new(self.clocks.borrow()[gateway].of_next_process());
        self.clocks.borrow_mut()[gateway] = Arc::clone(&clock);
        let after = Gateway::replacing(start(&self.platform, &self.redis, self.kind, gateway, &clock));
        self.gateways.borrow_mut()[gateway] = after;
        self.crashed.borrow_mut().push(before);
    }

    /// Notes what the gateways noticed themselves.
    pub(super) fn note_losses(&self) {
        for gateway in self.gateways.borrow().iter() {
            if gateway.lab.metric("previewgate_store_data_losses_total") > 0.0 {
                self.coverage.note(Place::LossHealed);
            }
        }
    }
}

/// Up to an hour ahead or behind.
fn wrong(random: &mut Random) -> i64 {
    random.below(2 * HOUR) as i64 - HOUR as i64
}
