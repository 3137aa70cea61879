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
