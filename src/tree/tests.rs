//! Tests of the tree.

use super::*;

fn file(text: &str) -> Inode {
    Inode { meta: Metadata::root(0o644, 7), kind: Kind::bytes(text.as_bytes()), part: 0 }
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.walk()
        .map(|w| {
            format!("{}{}", String::from_utf8_lossy(&w.path), if w.link { " (link)" } else { "" })
        })
        .collect()
}

#[test]
fn walks_parents_first_and_links_last() {
    let mut tree = Tree::new();
    let sh = tree.insert(b"/bin/sh", file("x")).unwrap();
    tree.link(sh, b"bin/ash").unwrap();
    tree.insert(b"etc/", Inode { kind: Kind::directory(), ..file("") }).unwrap();
    tree.insert(b"./etc/./hosts", file("y")).unwrap();
    assert_eq!(paths(&tree), ["", "bin", "bin/sh", "etc", "etc/hosts", "bin/ash (link)"]);
    assert!(tree.remove(b"bin/sh").unwrap());
    assert_eq!(paths(&tree), ["", "bin", "etc", "etc/hosts", "bin/ash"]);
}

#[test]
fn keeps_entries_of_a_folder_put_again() {
    let mut tree = Tree::new();
    tree.insert(b"a/b", file("x")).unwrap();
    let meta = Metadata::root(0o700, 9);
    tree.insert(b"a", Inode { meta, kind: Kind::directory(), part: 3 }).unwrap();
    let a = tree.lookup(b"a").unwrap();
    assert_eq!((tree.get(a).meta.mode, tree.get(a).part), (0o700, 3));
    assert!(tree.lookup(b"a/b").is_some());
    tree.insert(b"a", file("now a file")).unwrap();
    assert!(tree.lookup(b"a/b").is_none());
}

#[test]
fn refuses_paths_that_lead_out() {
    let mut tree = Tree::new();
    for bad in [&b"../x"[..], b"a/../../x", b"a\0b", &[b'n'; 256], &[b'/'; 5000]] {
        assert!(tree.insert(bad, file("x")).is_err());
    }
    assert!(tree.lookup(b"..").is_none());
}

#[test]
fn grafts_with_hard_links() {
    let mut other = Tree::new();
    let a = other.insert(b"a", file("x")).unwrap();
    other.link(a, b"b").unwrap();
    let mut tree = Tree::new();
    tree.graft(b"root/fs", &other, 5).unwrap();
    assert_eq!(paths(&tree), ["", "root", "root/fs", "root/fs/a", "root/fs/b (link)"]);
    assert_eq!(tree.get(tree.lookup(b"root/fs/b").unwrap()).part, 5);
}

/// Contents that cannot be read beyond a byte.
#[derive(Debug)]
struct Broken(Vec<u8>);

impl Hold for Broken {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let at = offset as usize;
        let found = self.0.get(at..at + buf.len());
        ensure!(found.is_some(), "expected more");
        buf.copy_from_slice(found.unwrap());
        Ok(())
    }
}

#[test]
fn compares_contents_and_reads_no_more_than_it_takes() {
    let held = |bytes: &[u8], len: u64| Content::held(len, Box::new(Broken(bytes.to_vec())));
    let bytes = |bytes: &[u8]| Content::Bytes(bytes.into());
    let file = |text: &str| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    };
    let span = Content::of_file(file("text")).unwrap();
    let part = Content::part(std::sync::Arc::new(file("a text")), 2, 4);
    let all = [bytes(b"text"), held(b"text", 4), span, part];
    for one in &all {
        for other in &all {
            assert!(one.equals(other).unwrap(), "{one:?} {other:?}");
        }
        for other in [bytes(b"Text"), held(b"texT", 4), held(b"", 5)] {
            assert!(!one.equals(&other).unwrap(), "{one:?} {other:?}");
        }
        assert_eq!(one.digest().unwrap(), crate::oci::Digest::of(b"text"));
    }
    let broken = held(b"te", 4);
    assert!(broken.equals(&broken.clone()).unwrap());
    assert!(broken.equals(&bytes(b"text")).is_err());
    assert!(broken.digest().is_err());
}
