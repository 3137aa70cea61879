//! The plain types as parts of a manifest: options, lists, maps, numbers, text.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::node::{Kind, Meaning, Node, Scalar};
use super::part::{Decoder, Part, Text};
use super::place::{Invalid, Place, Spanned};

impl<T: Part> Part for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        T::decode(node, decoder).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn schema(shared: &mut Map<String, Value>) -> Value {
        T::schema(shared)
    }

    fn encode(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::encode)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Part> Part for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let nodes = match &node.kind {
            Kind::Sequence(nodes) => nodes,
            Kind::Scalar(Scalar { meaning: Meaning::Null, .. }) => {
                return decoder.mismatch(node, "a list", ": write `[]` or leave the key out");
            }
            _ => return decoder.mismatch(node, "a list", ""),
        };
        // Not `collect`: what is wrong with the later ones is told as well.
        let mut items = Some(Vec::with_capacity(nodes.len()));
        for (i, node) in nodes.iter().enumerate() {
            let item = decoder.within(&format!("[{i}]"), |decoder| T::decode(node, decoder));
            match (item, &mut items) {
                (Some(item), Some(items)) => items.push(item),
                _ => items = None,
            }
        }
        items
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn schema(shared: &mut Map<String, Value>) -> Value {
        json!({"type": "array", "items": T::schema(shared)})
    }

    fn encode(&self) -> Value {
        self.iter().map(T::encode).collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Part> Part for BTreeMap<String, T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Mapping(entries) = &node.kind else {
            return decoder.mismatch(node, "a mapping", "");
        };
        let mut items = Some(Self::new());
        for (key, node) in entries {
            let item = decoder.within(&key.name, |decoder| T::decode(node, decoder));
            match (item, &mut items) {
                (Some(item), Some(items)) => drop(items.insert(key.name.clone(), item)),
                _ => items = None,
            }
        }
        items
    }

    fn schema(shared: &mut Map<String, Value>) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(shared)})
    }

    fn encode(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.encode())).collect())
    }
}

impl Part for bool {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let scalar = decoder.scalar(node, "true or false")?;
        if let Meaning::Bool(value) = scalar.meaning {
            return Some(value);
        }
        let hint = match scalar.text.to_lowercase().as_str() {
            "yes" | "y" | "on" | "true" => ": write `true`",
            "no" | "n" | "off" | "false" => ": write `false`",
            _ => "",
        };
        decoder.mismatch(node, "true or false", hint)
    }

    fn absent() -> Option<Self> {
        Some(false)
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": "boolean"})
    }

    fn encode(&self) -> Value {
        (*self).into()
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Part for $type {
            fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
                let Meaning::Int(value) = decoder.scalar(node, "a whole number")?.meaning else {
                    return decoder.mismatch(node, "a whole number", "");
                };
                let Ok(value) = Self::try_from(value) else {
                    let range = format!("a number from {} to {}", Self::MIN, Self::MAX);
                    return decoder.mismatch(node, &range, "");
                };
                Some(value)
            }

            fn schema(_: &mut Map<String, Value>) -> Value {
                json!({"type": "integer", "minimum": Self::MIN, "maximum": Self::MAX})
            }

            fn encode(&self) -> Value {
                (*self).into()
            }
        }
    )*};
}

integers!(u16 u32 u64 i32 i64);

impl<T: Text> Part for Spanned<T> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let written = decoder.text(node)?;
        let at = decoder.place(node.mark);
        match T::read(written, &at) {
            Ok(value) => Some(Self { value, at, written: written.to_owned() }),
            Err(invalid) => decoder.refuse(invalid),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        T::schema()
    }

    fn encode(&self) -> Value {
        self.written.as_str().into()
    }
}

impl Text for String {
    fn read(text: &str, _: &Place) -> Result<Self, Invalid> {
        Ok(text.to_owned())
    }
}

impl Part for String {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node).map(str::to_owned)
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": "string"})
    }

    fn encode(&self) -> Value {
        self.as_str().into()
    }
}
