//! The crash matrix: the power goes at every call to the disk, and leaves nothing, all or some of what was pending;
//! then the log is opened, compared, written on, and the power goes again.

use std::sync::Mutex;

use super::life::{Ended, Rng, Shared, live, lock};
use super::world::World;
use super::*;
use crate::io::fault::{Call, Fault, Keep, Part};

/// What is left of sectors and names, with the seed of a point; without a loss, only the process dies.
fn kept(seed: u64) -> Vec<Option<Keep>> {
    let mut rng = Rng(seed);
    let mut random = || Part::Random(rng.next());
    let mut kept = vec![
        Keep { sectors: Part::None, names: Part::None },
        Keep { sectors: Part::All, names: Part::All },
        Keep { sectors: Part::None, names: Part::All },
        Keep { sectors: Part::All, names: Part::None },
    ];
    kept.extend((0..3).map(|_| Keep { sectors: random(), names: random() }));
    kept.into_iter().map(Some).chain([None, None]).collect()
}

/// The disk and the model, before a call.
struct Moment {
    io: FaultIo,
    world: World,
}

/// Lives on one disk, and what the disk was like before each call.
fn moments(seed: u64, lives: u64, steps: usize) -> Vec<Moment> {
    let io = FaultIo::new(1 << 30);
    let world = Shared::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let mut rng = Rng(seed);
    for _ in 0..lives {
        let (disk, model, all) = (io.clone(), world.clone(), moments.clone());
        io.watch(move |_: u64, _: Call, _: &Path| {
            // While the model compares, calls are its own.
            let world = model.try_lock().ok()?.clone();
            all.lock().unwrap().push(Moment { io: disk.copy(), world });
            None
        });
        live(&io, &world, rng.next(), steps).unwrap();
        io.kill();
    }
    io.unwatch();
    std::mem::take(&mut moments.lock().unwrap())
}

/// What happens after a crash: lives that end at some call, and one that does not.
pub(super) fn after(io: &FaultIo, world: World, seed: u64) -> Result<(), String> {
    let world = Arc::new(Mutex::new(world));
    let mut rng = Rng(seed);
    for ends in [true, false] {
        let until = rng.below(40);
        let first = io.calls();
        if ends {
            io.watch(move |number: u64, _: Call, _: &Path| (number >= first + until).then_some(Fault::Crash));
        }
        match live(io, &world, rng.next(), 12) {
            Ok(()) | Err(Ended::Disk) => {}
            Err(Ended::Wrong(what)) => return Err(what),
        }
        match rng.below(4) {
            0 => io.kill(),
            1 => io.power_loss(Keep { sectors: Part::None, names: Part::None }),
            2 => io.power_loss(Keep { sectors: Part::Random(rng.next()), names: Part::All }),
            _ => io.power_loss(Keep { sectors: Part::Random(rng.next()), names: Part::Random(rng.next()) }),
        }
    }
    let (log, found) = open(io, rng.next()).map_err(|error| error.to_string())?;
    lock(&world).settle(&log, &found)
}

fn matrix(seed: u64) {
    let mut points = 0;
    let moments = moments(seed, 4, 150);
    for (number, moment) in moments.iter().enumerate() {
        let point = seed << 32 | number as u64;
        for (variant, keep) in kept(point).into_iter().enumerate() {
            let io = moment.io.copy();
            match keep {
                Some(keep) => io.power_loss(keep),
                None => io.kill(),
            }
            if let Err(what) = after(&io, moment.world.clone(), point ^ (variant as u64) << 60) {
                panic!("seed {seed}, call {number} of {}, left {keep:?}: {what}", moments.len());
            }
            points += 1;
        }
    }
    println!("{points} crash points of {} calls", moments.len());
    assert!(points >= 3000);
}

macro_rules! matrices {
    ($($name:ident: $seed:expr),*) => { $(#[test] fn $name() { matrix($seed) })* };
}

// Each of them has more than 3,000 points, so that together they have more than 24,000.
matrices!(seed_1: 1, seed_2: 2, seed_3: 3, seed_4: 4, seed_5: 5, seed_6: 6, seed_7: 7, seed_8: 8);

/// For long runs: `cargo test --release -p ursula-wal -- --ignored --nocapture more_seeds`
#[test]
#[ignore = "takes minutes"]
fn more_seeds() {
    (1000..1040).for_each(matrix);
}
