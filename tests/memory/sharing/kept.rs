//! Seeds that are kept, in `tests/data/sharing-seeds.txt`: a line is a kind of run, a seed, and the awkward places that it
//! covers. When a change of the simulation gives a seed another meaning, the test says so; then
//! `cargo test --test memory sharing::kept -- --ignored --nocapture` names seeds for each place, in the form of the file.
//! A seed that finds a defect is added there with the places that it meets.

use super::coverage::Place;
use super::{Kind, run_alone};

/// The kind of run, the seed, and the names of the places.
fn kept() -> Vec<(Kind, u64, Vec<Place>)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sharing-seeds.txt")).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(read).collect()
}

fn read(line: &str) -> (Kind, u64, Vec<Place>) {
    fn named<T: Copy + std::fmt::Debug>(name: &str, all: &[T]) -> T {
        *all.iter().find(|known| format!("{known:?}") == name).unwrap_or_else(|| panic!("{name}"))
    }
    let mut words = line.split(' ');
    let kind = named(words.next().unwrap(), &[Kind::Calm, Kind::Available, Kind::Strict]);
    let seed = words.next().unwrap().parse().unwrap();
    (kind, seed, words.map(|name| named(name, &Place::ALL)).collect())
}

#[test]
fn kept_seeds_find_nothing_and_cover_every_awkward_place() {
    let kept = kept();
    for (kind, seed, places) in &kept {
        let (found, coverage) = run_alone(*kind, *seed);
        assert!(found.is_empty(), "{kind:?}, SEEDS={seed}: {found:#?}");
        for place in places {
            assert!(coverage.of(*place) > 0, "{kind:?} {seed} does not cover {place:?} any more: {coverage:?}");
        }
    }
    let is_covered = |place: &Place| kept.iter().any(|(_, _, places)| places.contains(place));
    let missing: Vec<_> = Place::ALL.into_iter().filter(|place| !is_covered(place)).collect();
    assert!(missing.is_empty(), "no kept seed covers {missing:?}");
}

/// Not a test: names seeds that cover each place whenever they run.
#[test]
#[ignore = "lists seeds for the test above"]
fn seeds_for_each_place() {
    for kind in [Kind::Available, Kind::Strict] {
        for seed in super::seeds(0..60) {
            let runs: Vec<_> = (0..3).map(|_| run_alone(kind, seed).1).collect();
            let least = |place: &Place| runs.iter().map(|run| run.of(*place)).min().unwrap_or_default();
            let always = Place::ALL.into_iter().filter(|place| least(place) > 0);
            let names: Vec<_> = always.map(|place| format!(" {place:?}")).collect();
            println!("{kind:?} {seed}{}", names.concat());
        }
    }
}
