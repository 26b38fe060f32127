//! A process that dies around a commit, a fold or a slice leaves state that is what its rows say.

use std::path::Path;
use std::process::Command;

use pipeline::fail_point;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::bench::{Bench, Given, assert_clean, domain};
use super::yard;
use crate::verify::VerifyOptions;

const DIR: &str = "STATE_TEST_DIR";
const NOW: i64 = 1_767_225_600_000_000;

/// In the child: gives batches until it dies.
#[test]
fn giving_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let mut bench = Bench::in_dir(&domain(yard::CONTRACTS), Path::new(&dir));
    bench.tidy();
    let mut rng = SmallRng::seed_from_u64(9);
    for batch in 0..12 {
        let given: Vec<Given> =
            (0..60).map(|number| yard::record(&mut rng, NOW, batch * 60 + number)).collect();
        bench.give(0, &given);
    }
}

fn child(dir: &Path, armed: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "verify::tests::kill::giving_child"]).env(DIR, dir);
    if let Some(armed) = armed {
        command.env(fail_point::VARIABLE, armed);
    }
    command.output().expect("a child").status.success()
}

#[test]
fn state_is_what_the_rows_say_after_a_kill_at_any_of_its_points() {
    for (point, is_missing) in [
        ("store_before_commit:3", false),
        ("store_after_commit:3", false),
        ("state_before_fold:1", false),
        ("state_after_fold:1", false),
        ("state_before_fold:3", false),
        ("state_before_slice:1", true),
        ("state_after_slice:1", true),
        ("state_before_slice:6", true),
        ("state_after_slice:6", true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        if is_missing {
            assert!(child(dir.path(), None), "the child gives all it has");
            let mut bench = Bench::in_dir(&domain(yard::CONTRACTS), dir.path());
            bench.damage("delete from metric_state_specs");
        }
        assert!(!child(dir.path(), Some(point)), "the child outlived {point}");
        let mut bench = Bench::in_dir(&domain(yard::CONTRACTS), dir.path());
        bench.at(NOW);
        assert_clean(&bench.verify(&VerifyOptions::default()), point);
        bench.tidy();
        let state = bench.state();
        assert!(state.whole == state.all && state.all > 10, "{point}: {state:?}");
        assert_clean(&bench.verify(&VerifyOptions::default()), point);
        bench.restart();
        assert_clean(&bench.verify(&VerifyOptions::default()), point);
    }
}
