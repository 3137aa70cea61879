//! How typed parts of a manifest are read, described and written.
//!
//! A [`Part`] says all three of one type. A struct is declared by [`record!`]:
//! its fields, keys and documentation stand once, and decoder, JSON schema,
//! encoder and rustdoc are made from them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::node::{Key, Kind, Meaning, Node, Scalar};
use super::place::{Invalid, MAX_PROBLEMS, Mark, Place, Source};
use super::suggest::nearest;

/// A type that a part of a manifest is read as.
pub(crate) trait Part: Sized {
    /// Reads a value. `None` means that what is wrong was told to `decoder`.
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self>;

    /// Returns what stands for a key that is not there; `None` if it must be.
    fn absent() -> Option<Self> {
        None
    }

    /// Returns the JSON schema of the type, naming shared ones in `shared`.
    fn schema(shared: &mut Map<String, Value>) -> Value;

    /// Returns the value as JSON.
    fn encode(&self) -> Value;

    /// Says whether the value stands for a key that is not there.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A [`Part`] that is a mapping of known keys.
pub(crate) trait Record: Sized {
    /// Takes the fields that the record knows.
    fn take(fields: &mut Fields<'_>, decoder: &mut Decoder) -> Option<Self>;
    /// Describes each key.
    fn properties(described: &mut Described<'_>);
    /// Writes each key that has a value.
    fn write(&self, out: &mut Map<String, Value>);
}

/// A type that is written as text: one scalar. Read as a
/// [`Spanned`](super::Spanned) of it.
pub(crate) trait Text: Sized {
    /// Reads the text, or says what is wrong with it.
    fn read(text: &str, at: &Place) -> Result<Self, Invalid>;

    /// Returns the JSON schema of the text.
    fn schema() -> Value {
        json!({"type": "string"})
    }
}

/// Reads one file: knows the place, gathers what is wrong.
#[derive(Debug)]
pub(crate) struct Decoder {
    source: Arc<Source>,
    path: String,
    pub(crate) problems: Vec<Invalid>,
}

impl Decoder {
    pub(crate) fn new(source: Arc<Source>, problems: Vec<Invalid>) -> Self {
        Self { source, path: String::new(), problems }
    }

    /// Returns the place of a mark under the present key path.
    pub(crate) fn place(&self, mark: Mark) -> Place {
        Place::new(&self.source, mark, &self.path)
    }

    /// Tells what is wrong.
    pub(crate) fn refuse<T>(&mut self, invalid: Invalid) -> Option<T> {
        self.problems.push(invalid);
        None
    }

    /// Tells that a value is of another kind than expected.
    pub(crate) fn mismatch<T>(&mut self, node: &Node, expected: &str, hint: &str) -> Option<T> {
        let at = self.place(node.mark);
        self.refuse(at.invalid(format!("expected {expected}, got {}{hint}", node.describe())))
    }

    /// Runs `read` with a step added to the key path.
    pub(crate) fn within<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let value = read(self);
        self.path.truncate(before);
        value
    }

    /// Returns a scalar, or tells that it is something else.
    pub(crate) fn scalar<'a>(&mut self, node: &'a Node, expected: &str) -> Option<&'a Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => self.mismatch(node, expected, ""),
        }
    }

    /// Returns a text, or tells that it is something else.
    pub(crate) fn text<'a>(&mut self, node: &'a Node) -> Option<&'a str> {
        let scalar = self.scalar(node, "a string")?;
        match scalar.meaning {
            Meaning::Text => Some(&scalar.text),
            Meaning::Null => self.mismatch(node, "a string", ""),
            _ => {
                let hint = format!(": write \"{}\" in quotes", scalar.text);
                self.mismatch(node, "a string", &hint)
            }
        }
    }

    /// Returns the keys of a mapping, or tells that it is something else.
    pub(crate) fn fields<'a>(&mut self, node: &'a Node) -> Option<Fields<'a>> {
        match &node.kind {
            Kind::Mapping(entries) => {
                Some(Fields { at: self.place(node.mark), entries, known: Vec::new() })
            }
            _ => self.mismatch(node, "a mapping", ""),
        }
    }
}

/// The keys of a mapping that is read as a [`Record`].
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// Where the mapping begins.
    pub(crate) at: Place,
    entries: &'a [(Key, Node)],
    known: Vec<&'static str>,
}

impl Fields<'_> {
    /// A mapping without keys.
    pub(crate) fn none() -> Fields<'static> {
        Fields { at: Place::default(), entries: &[], known: Vec::new() }
    }

    /// Reads the value of a key.
    pub(crate) fn take<T: Part>(&mut self, key: &'static str, decoder: &mut Decoder) -> Option<T> {
        self.known.push(key);
        match self.entries.iter().find(|(entry, _)| entry.name == key) {
            Some((_, node)) => decoder.within(key, |decoder| T::decode(node, decoder)),
            None => T::absent()
                .or_else(|| decoder.refuse(self.at.invalid(format!("the key `{key}` is missing")))),
        }
    }

    /// Tells of every key that nothing took.
    pub(crate) fn finish(self, decoder: &mut Decoder) {
        for (key, _) in self.entries {
            if self.known.contains(&key.name.as_str()) {
                continue;
            }
            if decoder.problems.len() > MAX_PROBLEMS {
                return;
            }
            let at = decoder.within(&key.name, |decoder| decoder.place(key.mark));
            let suggestion = nearest(&key.name, self.known.iter().copied());
            decoder.problems.push(at.invalid("unknown key").suggest(suggestion));
        }
    }
}

/// The JSON schema of a [`Record`] in the making.
#[derive(Debug)]
pub(crate) struct Described<'a> {
    pub(crate) shared: &'a mut Map<String, Value>,
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl Described<'_> {
    /// Describes one key by its type and its documentation.
    pub(crate) fn field<T: Part>(&mut self, key: &str, about: &str) {
        let mut schema = T::schema(self.shared);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), about.trim().into());
        }
        self.properties.insert(key.into(), schema);
        if T::absent().is_none() {
            self.required.push(key.into());
        }
    }
}

/// Reads a record from a mapping.
pub(crate) fn decode_record<R: Record>(node: &Node, decoder: &mut Decoder) -> Option<R> {
    let mut fields = decoder.fields(node)?;
    let record = R::take(&mut fields, decoder);
    fields.finish(decoder);
    record
}

/// Returns a record of which no key is there; all must be optional.
pub(crate) fn empty_record<R: Record>() -> R {
    let mut decoder = Decoder::new(Arc::default(), Vec::new());
    R::take(&mut Fields::none(), &mut decoder).expect("every key of the record is optional")
}

/// Returns a reference to a record's schema, which is made at first need.
pub(crate) fn schema_record<R: Record>(
    name: &str,
    about: &str,
    shared: &mut Map<String, Value>,
) -> Value {
    if !shared.contains_key(name) {
        // Holds the name's place while the parts are described.
        shared.insert(name.into(), Value::Null);
        let mut described = Described { shared, properties: Map::new(), required: Vec::new() };
        R::properties(&mut described);
        let Described { properties, required, .. } = described;
        let mut schema = json!({
            "description": about.trim(),
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        shared.insert(name.into(), schema);
    }
    json!({"$ref": format!("#/$defs/{name}")})
}

/// Declares structs that are read from mappings: `field: Type = "key"`.
///
/// Each also gets `at`, the place of its mapping. `= ..` takes the keys of a
/// record from the same mapping. `check` names a function that is called with
/// the struct and the decoder, to tell what no single field can know.
macro_rules! record {
    ($(
        $(#[doc = $about:literal])*
        $name:ident as $title:literal $(check $check:path)? {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty = $key:tt, )*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            /// Where it stands.
            pub at: $crate::manifest::Place,
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl $crate::manifest::part::Record for $name {
            fn take(
                fields: &mut $crate::manifest::part::Fields<'_>,
                decoder: &mut $crate::manifest::part::Decoder,
            ) -> Option<Self> {
                $( let $field = $crate::manifest::part::record_field!(
                    take $key, $type, fields, decoder); )*
                let record = Self { at: fields.at.clone(), $( $field: $field?, )* };
                $( $check(&record, decoder); )?
                Some(record)
            }

            fn properties(described: &mut $crate::manifest::part::Described<'_>) {
                $( $crate::manifest::part::record_field!(
                    describe $key, $type, described, concat!($($doc, "\n"),*)); )*
            }

            fn write(&self, out: &mut serde_json::Map<String, serde_json::Value>) {
                $( $crate::manifest::part::record_field!(write $key, self.$field, out); )*
            }
        }

        impl $crate::manifest::part::Part for $name {
            fn decode(
                node: &$crate::manifest::node::Node,
                decoder: &mut $crate::manifest::part::Decoder,
            ) -> Option<Self> {
                $crate::manifest::part::decode_record(node, decoder)
            }

            fn schema(shared: &mut serde_json::Map<String, serde_json::Value>)
            -> serde_json::Value {
                let about = concat!($($about, "\n"),*);
                $crate::manifest::part::schema_record::<Self>($title, about, shared)
            }

            fn encode(&self) -> serde_json::Value {
                let mut out = serde_json::Map::new();
                $crate::manifest::part::Record::write(self, &mut out);
                out.into()
            }
        }
    )*};
}

/// One field of [`record!`]: under a key of its own, or flattened (`..`).
macro_rules! record_field {
    (take .., $type:ty, $fields:ident, $decoder:ident) => {
        <$type as $crate::manifest::part::Record>::take($fields, $decoder)
    };
    (take $key:literal, $type:ty, $fields:ident, $decoder:ident) => {
        $fields.take::<$type>($key, $decoder)
    };
    (describe .., $type:ty, $described:ident, $doc:expr) => {
        <$type as $crate::manifest::part::Record>::properties($described)
    };
    (describe $key:literal, $type:ty, $described:ident, $doc:expr) => {
        $described.field::<$type>($key, $doc)
    };
    (write .., $value:expr, $out:ident) => {
        $crate::manifest::part::Record::write(&$value, $out)
    };
    (write $key:literal, $value:expr, $out:ident) => {
        if !$crate::manifest::part::Part::is_absent(&$value) {
            $out.insert($key.into(), $crate::manifest::part::Part::encode(&$value));
        }
    };
}

pub(crate) use {record, record_field};
