//! Progress of images and layers: bars on a terminal, a line for each layer
//! elsewhere, events with `--json`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::table;
use super::ui::Ui;
use crate::source::progress::{Item, Progress, Stage};

/// A bar: what, how far, how fast, how long still.
const BAR: &str = "{prefix:.dim} {wide_msg} [{bar:24}] {bytes:>10}/{total_bytes:<10} {eta:>4}";
/// What has no measure of its way.
const SPINNER: &str = "{prefix:.dim} {wide_msg} {spinner}";

/// Shows what sources tell.
#[derive(Debug)]
pub(super) struct Shown {
    ui: Ui,
    bars: Mutex<BTreeMap<Item, ProgressBar>>,
}

impl Shown {
    /// Shows progress the way that `ui` talks.
    pub(super) fn new(ui: &Ui) -> Self {
        Self { ui: ui.clone(), bars: Mutex::default() }
    }

    fn bars(&self) -> MutexGuard<'_, BTreeMap<Item, ProgressBar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: &str, item: &Item) {
        self.ui.event(&json!({
            "event": event,
            "stage": verb(item.stage),
            "image": item.image,
            "digest": item.digest,
            "bytes": item.total,
        }));
    }
}

impl Progress for Shown {
    fn started(&self, item: &Item) {
        self.event("started", item);
        if !self.ui.draws() {
            return;
        }
        let style = if item.stage == Stage::Fetch { BAR } else { SPINNER };
        let style = ProgressStyle::with_template(style).expect("the template is well formed");
        let bar = self.ui.bars.add(ProgressBar::new(item.total).with_style(style));
        bar.set_prefix(format!("{:<6}", verb(item.stage)));
        bar.set_message(format!("{} {}", item.image, item.digest.short()));
        self.bars().insert(item.clone(), bar);
    }

    fn advanced(&self, item: &Item, done: u64) {
        if let Some(bar) = self.bars().get(item) {
            bar.set_position(done);
        }
    }

    fn finished(&self, item: &Item) {
        self.event("finished", item);
        match self.bars().remove(item) {
            Some(bar) => bar.finish_and_clear(),
            None if item.stage == Stage::Fetch => {
                let size = table::size(item.total);
                self.ui.note(&format!("fetched {} {} {size}", item.image, item.digest.short()));
            }
            None => {}
        }
    }

    fn note(&self, text: &str) {
        self.ui.note(text);
    }
}

fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Fetch => "fetch",
        Stage::Unpack => "unpack",
    }
}
