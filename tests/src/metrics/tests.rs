//! Values by name.

use super::Metrics;

#[test]
fn values_are_found_by_their_whole_name_and_summed_over_labels() {
    let metrics = Metrics("# HELP a b\na 1\na_total 5\nb{core=\"0\"} 2\nb{core=\"1\"} 3.5\n".to_owned());
    assert_eq!((metrics.value("a"), metrics.value("a_total"), metrics.value("b")), (1.0, 5.0, 5.5));
}

#[test]
#[should_panic(expected = "no metric c")]
fn a_name_that_is_not_there_is_a_mistake() {
    Metrics("a 1\n".to_owned()).value("c");
}
