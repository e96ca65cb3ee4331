//! Rename and link in the model, with the order in which Linux finds what is wrong.

use nix::errno::Errno;

use super::{Body, Id, Model};
use crate::op::{Renaming, Spot};

/// rename(2) and its flags.
pub(super) fn rename(
    model: &mut Model,
    from: &Spot,
    to: &Spot,
    how: Renaming,
) -> Result<(), Errno> {
    let head = &mut model.head;
    let (from_dir, from_name) = head.parent_of(from)?;
    let (to_dir, to_name) = head.parent_of(to)?;
    let source = head.child(from_dir, from_name)?.ok_or(Errno::ENOENT)?;
    let target = head.child(to_dir, to_name)?;
    match (how, target) {
        (Renaming::NoReplace, Some(_)) => return Err(Errno::EEXIST),
        (Renaming::Exchange, None) => return Err(Errno::ENOENT),
        _ => {}
    }
    if head.is_at_or_above(source, to_dir) {
        return Err(Errno::EINVAL);
    }
    if target.is_some_and(|target| head.is_at_or_above(target, from_dir)) {
        let exchange = how == Renaming::Exchange;
        return Err(if exchange {
            Errno::EINVAL
        } else {
            Errno::ENOTEMPTY
        });
    }
    if target == Some(source) {
        return Ok(());
    }
    let (from_name, to_name) = (from_name.to_vec(), to_name.to_vec());
    match target {
        Some(target) if how == Renaming::Exchange => {
            head.names_mut(from_dir).insert(from_name, target);
            head.names_mut(to_dir).insert(to_name, source);
        }
        target => {
            if let Some(target) = target {
                may_replace(model, source, target)?;
                unlink(model, target);
            }
            model.head.names_mut(from_dir).remove(&from_name);
            model.head.names_mut(to_dir).insert(to_name, source);
        }
    }
    model.touched.must.extend([from_dir, to_dir]);
    Ok(())
}

fn may_replace(model: &Model, source: Id, target: Id) -> Result<(), Errno> {
    match (
        model.head.node(source).names(),
        model.head.node(target).names(),
    ) {
        (Some(_), None) => Err(Errno::ENOTDIR),
        (None, Some(_)) => Err(Errno::EISDIR),
        (Some(_), Some(names)) if !names.is_empty() => Err(Errno::ENOTEMPTY),
        _ => Ok(()),
    }
}

/// Takes one name away from `id`; the object goes with its last name unless it is held open.
pub(super) fn unlink(model: &mut Model, id: Id) {
    let node = model.head.node_mut(id);
    node.links -= 1;
    if node.links == 0 && !model.handles.iter().flatten().any(|handle| handle.id == id) {
        model.head.nodes.remove(&id);
    }
}

/// link(2).
pub(super) fn link(model: &mut Model, from: &Spot, to: &Spot) -> Result<(), Errno> {
    let source = model.head.find(from)?;
    let (parent, name) = model.head.parent_of(to)?;
    if model.head.child(parent, name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if matches!(model.head.node(source).body, Body::Dir(_)) {
        return Err(Errno::EPERM);
    }
    let name = name.to_vec();
    model.head.names_mut(parent).insert(name, source);
    model.head.node_mut(source).links += 1;
    model.touched.must.push(parent);
    Ok(())
}
