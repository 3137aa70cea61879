//! The manager: all services at once, the report, commands, and the way down.

use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use moby_bundle::{order, path};
use moby_init::console::say;
use moby_init::error::{Error, Result};
use moby_init::order::bundles;
use moby_init::record::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;

use crate::control;
use crate::unit::Unit;

/// A service that dies within this time of its start has failed to boot.
const GRACE: Duration = Duration::from_millis(500);

/// All services by name.
pub(crate) type Units = BTreeMap<String, Rc<Unit>>;

/// Starts and keeps all services until SIGTERM, then stops them and comes back.
pub(crate) async fn run() -> Result<()> {
    let mut term = signal(SignalKind::terminate())
        .map_err(|error| Error::io("listening to", "SIGTERM", &error))?;
    let units = Rc::new(load());
    let after = order(&units);
    for unit in units.values() {
        let first = after.get(&unit.name).into_iter().flatten().filter_map(|name| units.get(name));
        spawn_local(Rc::clone(unit).live(first.cloned().collect()));
    }
    spawn_local(settle(Rc::clone(&units)));
    let commands = control::serve(Rc::clone(&units));
    tokio::select! {
        done = commands => done?,
        _ = term.recv() => {}
    }
    stop(&units, &after).await;
    Ok(())
}

fn load() -> Units {
    let unit = |(name, bundle): (String, std::path::PathBuf)| {
        let unit = Unit::load(&name, bundle.clone());
        let unit = unit.unwrap_or_else(|error| Unit::broken(&name, bundle, &error));
        (name, Rc::new(unit))
    };
    bundles(path::SERVICES).into_iter().map(unit).collect()
}

/// Gives what each service comes after, with every ring of services opened and told.
fn order(units: &Units) -> BTreeMap<String, Vec<String>> {
    let mut after: BTreeMap<String, Vec<String>> =
        units.iter().map(|(name, unit)| (name.clone(), unit.runtime.after.clone())).collect();
    for (name, need) in order::unknown(&after) {
        say(format_args!("service {name}: after {need}, which is no service of this image"));
    }
    while let Err(ring) = order::sort(&after) {
        let Some(first) = ring.first() else { break };
        say(format_args!(
            "services wait for one another: {}; starting {first} first",
            ring.join(", ")
        ));
        after.insert(first.clone(), Vec::new());
    }
    after
}

/// Tells init when every service was ready, failed or ended once.
async fn settle(units: Rc<Units>) {
    for unit in units.values() {
        unit.passed().await;
    }
    tokio::time::sleep(GRACE).await;
    // Without init there is nobody to tell.
    let _alone = writeln!(std::io::stdout(), "{}", Event::Settled.line());
}

/// Stops all services, each before those it comes after.
async fn stop(units: &Units, after: &BTreeMap<String, Vec<String>>) {
    for row in rows(after).iter().rev() {
        let row: Vec<_> = row.iter().filter_map(|name| units.get(name)).collect();
        for unit in &row {
            unit.want(false);
        }
        for unit in row {
            unit.down().await;
        }
    }
}

/// Puts names in rows: those of a row come after some of the row before, never of their own.
fn rows(after: &BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
    let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
    let sorted = order::sort(after).unwrap_or_else(|_| after.keys().cloned().collect());
    let mut rows: Vec<Vec<String>> = Vec::new();
    for name in &sorted {
        let needs = after.get(name).into_iter().flatten();
        let row = needs.filter_map(|need| depth.get(need.as_str())).max().map_or(0, |row| row + 1);
        depth.insert(name, row);
        if rows.len() <= row {
            rows.push(Vec::new());
        }
        rows[row].push(name.clone());
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_depth() {
        let edges = [
            ("a", vec![]),
            ("b", vec!["a"]),
            ("c", vec!["b", "gone"]),
            ("d", vec!["a"]),
            ("e", vec![]),
        ];
        let after: BTreeMap<String, Vec<String>> = edges
            .into_iter()
            .map(|(name, needs)| (name.to_owned(), needs.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(rows(&after), [vec!["a", "e"], vec!["b", "d"], vec!["c"]]);
    }
}
