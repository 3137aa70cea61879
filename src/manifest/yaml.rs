//! YAML text to a tree of [`Node`]s: one document, anchors resolved.
//!
//! Built on the event parser, not on a deserializer, because every value must
//! keep its mark and every error of a file be told at once. Follows YAML 1.2
//! and the merge key `<<` of YAML 1.1. Refused: a second document, keys that
//! are not text, duplicate keys, foreign tags, and texts that grow too large
//! when their aliases are spelled out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::node::{Key, Kind, Meaning, Node, Scalar, excerpt};
use super::place::{Invalid, MAX_PROBLEMS, Mark, Place, Source};

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;
/// How much a document may hold in memory, in bytes, its aliases spelled out.
const MAX_WEIGHT: usize = 64 << 20;
/// What a value weighs besides its text, in bytes.
const NODE_WEIGHT: usize = 64;

/// Parses one document. Some errors leave a tree, which may hold others.
pub(crate) fn parse(source: &Arc<Source>) -> (Option<Node>, Vec<Invalid>) {
    let mut builder = Builder {
        source: Arc::clone(source),
        open: Vec::new(),
        root: None,
        documents: 0,
        anchors: BTreeMap::new(),
        weight: 0,
        problems: Vec::new(),
    };
    match builder.run() {
        Ok(()) => (builder.root, builder.problems),
        Err(fatal) => {
            builder.problems.push(fatal);
            (None, builder.problems)
        }
    }
}

struct Builder {
    source: Arc<Source>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: BTreeMap<usize, Node>,
    weight: usize,
    problems: Vec<Invalid>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    items: Items,
}

enum Items {
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// A mapping in the making.
#[derive(Default)]
struct Mapping {
    entries: Vec<(Key, Node)>,
    /// The line of each key.
    lines: BTreeMap<String, u32>,
    /// What `<<` names.
    merged: Vec<Node>,
    key: Option<Slot>,
}

/// What the next value of a mapping belongs to.
enum Slot {
    Key(Key),
    Merge,
    /// The key was wrong, and is told; its value is dropped.
    Dropped,
}

impl Builder {
    fn run(&mut self) -> Result<(), Invalid> {
        let source = Arc::clone(&self.source);
        let mut parser = Parser::new_from_str(&source.text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let at = self.place(mark(*error.marker()));
                at.invalid(format!("this is no YAML: {}{}", error.info(), self.way_out(&at)))
            })?;
            self.event(event, mark(span.start))?;
            if self.documents > 1 {
                break;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Invalid> {
        match event {
            Event::DocumentStart(_) => self.document(mark),
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(NODE_WEIGHT + text.len(), mark)?;
                let scalar = self.scalar(text, style, tag.as_deref(), mark)?;
                self.finish(Node { mark, kind: Kind::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(mark, anchor, tag.as_deref(), Items::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open(mark, anchor, tag.as_deref(), Items::Mapping(Mapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.place(mark).invalid("this alias stands for itself"));
                };
                self.charge(weight(&node), mark)?;
                // Errors in what an alias stands for are told where it was written.
                self.finish(node, 0)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn document(&mut self, mark: Mark) -> Result<(), Invalid> {
        self.documents += 1;
        if self.documents > 1 {
            let at = self.place(mark);
            self.problems.push(
                at.invalid("a second document begins here: give each manifest a file of its own"),
            );
        }
        Ok(())
    }

    fn open(
        &mut self,
        mark: Mark,
        anchor: usize,
        tag: Option<&Tag>,
        items: Items,
    ) -> Result<(), Invalid> {
        let fits = match items {
            Items::Sequence(_) => "seq",
            Items::Mapping(_) => "map",
        };
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema() || tag.suffix != fits) {
            return Err(self.place(mark).invalid("this tag is not supported"));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(self.place(mark).invalid(message));
        }
        self.charge(NODE_WEIGHT, mark)?;
        self.open.push(Open { mark, anchor, items });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Invalid> {
        let Some(Open { mark, anchor, items }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match items {
            Items::Sequence(nodes) => Kind::Sequence(nodes),
            Items::Mapping(Mapping { mut entries, merged, .. }) => {
                self.merge(&mut entries, merged);
                Kind::Mapping(entries)
            }
        };
        self.finish(Node { mark, kind }, anchor)
    }

    /// Counts what a value weighs before it is made or copied.
    fn charge(&mut self, weight: usize, mark: Mark) -> Result<(), Invalid> {
        self.weight += weight;
        if self.weight > MAX_WEIGHT {
            let message =
                format!("this holds too much, more than {} MiB of values", MAX_WEIGHT >> 20);
            return Err(self.place(mark).invalid(message));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Invalid> {
        if anchor > 0 {
            self.charge(weight(&node), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        let key = match self.open.last_mut().map(|open| &mut open.items) {
            None => {
                if self.documents == 1 {
                    self.root = Some(node);
                }
                return Ok(());
            }
            Some(Items::Sequence(nodes)) => {
                nodes.push(node);
                return Ok(());
            }
            Some(Items::Mapping(mapping)) => match mapping.key.take() {
                Some(Slot::Key(key)) => {
                    mapping.entries.push((key, node));
                    return Ok(());
                }
                Some(Slot::Merge) => {
                    mapping.merged.push(node);
                    return Ok(());
                }
                Some(Slot::Dropped) => return Ok(()),
                None => node,
            },
        };
        let slot = self.slot(key);
        if let Some(Open { items: Items::Mapping(mapping), .. }) = self.open.last_mut() {
            mapping.key = Some(slot);
        }
        Ok(())
    }

    /// Takes a value as the key of the next one.
    fn slot(&mut self, node: Node) -> Slot {
        let at = self.place(node.mark);
        let described = node.describe();
        let Kind::Scalar(Scalar { text, meaning }) = node.kind else {
            self.problems.push(at.invalid(format!("expected a key, got {described}")));
            return Slot::Dropped;
        };
        if meaning != Meaning::Text {
            let message = format!("expected a key, got {described}: write \"{text}\" in quotes");
            self.problems.push(at.invalid(message));
            return Slot::Dropped;
        }
        if text == "<<" {
            return Slot::Merge;
        }
        if let Some(Open { items: Items::Mapping(mapping), .. }) = self.open.last_mut()
            && let Some(line) = mapping.lines.insert(text.clone(), node.mark.line)
        {
            if self.problems.len() > MAX_PROBLEMS {
                return Slot::Dropped;
            }
            let shown = excerpt(&text);
            let message = format!("the key `{shown}` stands here twice, before on line {line}");
            self.problems.push(at.invalid(message));
            return Slot::Dropped;
        }
        Slot::Key(Key { mark: node.mark, name: text })
    }

    /// Adds what `<<` names, as far as the mapping does not say otherwise.
    fn merge(&mut self, entries: &mut Vec<(Key, Node)>, merged: Vec<Node>) {
        let mut known: BTreeSet<String> = entries.iter().map(|(key, _)| key.name.clone()).collect();
        let nodes = merged.into_iter().flat_map(|node| match node.kind {
            Kind::Sequence(nodes) => nodes,
            kind => vec![Node { kind, ..node }],
        });
        for node in nodes {
            let Kind::Mapping(others) = node.kind else {
                let message = format!("expected a mapping to merge, got {}", node.describe());
                self.problems.push(self.place(node.mark).invalid(message));
                continue;
            };
            entries.extend(others.into_iter().filter(|(key, _)| known.insert(key.name.clone())));
        }
    }

    fn scalar(
        &self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        mark: Mark,
    ) -> Result<Scalar, Invalid> {
        let text = text.into_owned();
        let plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else {
            return Ok(if plain { Scalar::plain(text) } else { Scalar::text(text) });
        };
        match tag.suffix.as_str() {
            "str" if tag.is_yaml_core_schema() => Ok(Scalar::text(text)),
            "null" | "bool" | "int" | "float" if tag.is_yaml_core_schema() => {
                Ok(Scalar::plain(text))
            }
            _ => Err(self.place(mark).invalid("this tag is not supported")),
        }
    }

    /// Says how to mend the most frequent slips that are no YAML.
    fn way_out(&self, at: &Place) -> &'static str {
        let line = self.source.text.lines().nth((at.line() as usize).saturating_sub(1));
        let column = (at.column() as usize).saturating_sub(1);
        match line.and_then(|line| line.chars().nth(column)) {
            Some('@' | '`') => " (write the value in quotes)",
            Some('\t') => " (indent with spaces)",
            _ => "",
        }
    }

    fn place(&self, mark: Mark) -> Place {
        Place::new(&self.source, mark, "")
    }
}

fn weight(node: &Node) -> usize {
    NODE_WEIGHT
        + match &node.kind {
            Kind::Scalar(scalar) => scalar.text.len(),
            Kind::Sequence(nodes) => nodes.iter().map(weight).sum(),
            Kind::Mapping(entries) => {
                entries.iter().map(|(key, node)| key.name.len() + weight(node)).sum()
            }
        }
}

fn mark(marker: Marker) -> Mark {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
}
