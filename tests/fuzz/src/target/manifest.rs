//! Fuzzes the manifest's reader, and the label's, which comes from any image.
//!
//! What parses is written out and must then parse again, to the same text.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(moby::manifest::parse_label(text, "label"));
    let Ok(manifest) = moby::manifest::parse(text, "fuzz.yml") else { return };
    let name = |reference: &moby::oci::Reference| reference.to_string();
    let written = manifest.to_yaml(&name);
    let again = moby::manifest::parse(&written, "written.yml")
        .unwrap_or_else(|error| panic!("the manifest written from one that parses:\n{error}"));
    assert_eq!(written, again.to_yaml(&name));
}
