//! Placement is part of the stored format: these figures must never change.

use super::*;

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

#[test]
fn slots_are_golden() {
    let slots = ["a", "b", "orders/2026", "\u{1f600}"].map(|name| slot_of(&key(name)).0);
    assert_eq!(slots, [3506, 188, 314, 3578]);
}

#[test]
fn a_companion_is_where_its_stream_is() {
    let key = key("orders/2026");
    assert_eq!([0, 7, u64::MAX].map(|upload| slot_of(&key.companion(upload)).0), [314; 3]);
}

#[test]
fn the_spread_is_golden() {
    let table = SlotTable::spread(8);
    let first: Vec<u32> = table.groups()[..16].iter().map(|group| group.0).collect();
    assert_eq!(first, [6, 5, 6, 1, 2, 3, 5, 5, 3, 1, 3, 4, 8, 4, 8, 8]);
    let sum = xxh3_64(&table.groups().iter().flat_map(|g| g.0.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(sum, 1_734_334_034_228_520_484);
}

#[test]
fn every_group_gets_its_share() {
    for groups in [1, 3, 8, 16] {
        let table = SlotTable::spread(groups);
        let fair = usize::from(SLOTS) / groups as usize;
        for group in 1..=groups {
            let share = table.groups().iter().filter(|owner| owner.0 == group).count();
            assert!(share * 4 > fair * 3 && share * 4 < fair * 5, "group {group} of {groups} has {share}");
        }
    }
}

#[test]
fn growth_moves_only_what_it_must() {
    let (before, after) = (SlotTable::spread(8), SlotTable::spread(9));
    for (old, new) in before.groups().iter().zip(after.groups()) {
        assert!(old == new || new.0 == 9, "a slot moved from {old} to {new}");
    }
}

#[test]
fn a_table_has_one_group_for_each_slot() {
    assert!(SlotTable::from_groups(vec![GroupId(1); 4095]).is_none());
    assert!(SlotTable::from_groups(vec![GroupId(1); 4096]).is_some());
}
