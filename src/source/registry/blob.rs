//! Fetching a blob, from where the last attempt broke off.

use std::cell::Cell;

use anyhow::{Result, anyhow};

use super::super::progress::Item;
use super::Registry;
use super::endpoint::Endpoint;
use super::retry::{Failure, Tries};
use crate::oci::{Descriptor, ImageRef, Reference};
use crate::store::{BlobWriter, Store, is_damage};

/// How much must have come for a broken connection to be forgiven, in bytes.
const PROGRESS: u64 = 1 << 20;

impl Registry {
    /// Fetches a blob into the store, from a mirror or from the origin.
    pub(super) fn blob(&self, image: &ImageRef, blob: &Descriptor, store: &Store) -> Result<()> {
        let item = Item::fetch(&Reference::Image(image.clone()), blob);
        let started = Cell::new(false);
        self.ask(image, |endpoint| {
            let Some(writer) = store.download(blob)? else {
                return Ok(());
            };
            if !started.replace(true) {
                self.progress.started(&item);
            }
            let resumed = writer.position() > 0;
            match self.download(endpoint, image, blob, writer, &item) {
                // What a former run left may be what is wrong: without it.
                Err(error) if resumed && is_damage(&error) => {
                    let Some(writer) = store.download(blob)? else {
                        return Ok(());
                    };
                    self.download(endpoint, image, blob, writer, &item)
                }
                other => other,
            }
        })?;
        if started.get() {
            self.progress.finished(&item);
        }
        Ok(())
    }

    fn download(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        blob: &Descriptor,
        mut writer: BlobWriter,
        item: &Item,
    ) -> Result<()> {
        let tell = |text: &str| {
            self.progress.note(&format!("{image}, blob {}: {text}", blob.digest.short()));
        };
        let mut tries = Tries::new(self.options.attempts, self.options.backoff);
        loop {
            let before = writer.position();
            match self.attempt(endpoint, image, blob, &mut writer, item) {
                Ok(()) => return writer.finish(),
                Err(failure) => {
                    if writer.position() > before + PROGRESS {
                        tries.reset();
                    }
                    tries.wait(failure, &tell)?;
                }
            }
        }
    }

    fn attempt(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        item: &Item,
    ) -> Result<(), Failure> {
        let position = writer.position();
        if position == blob.size {
            return Ok(());
        }
        let url = format!("{}/v2/{}/blobs/{}", endpoint.base, image.path, blob.digest);
        let answer = self.authorized(endpoint, image, &|client| {
            let request = client.get(&url);
            if position == 0 {
                return request;
            }
            request.header("Range", format!("bytes={position}-"))
        });
        let mut answer = match answer {
            Err(Failure::Final(error)) if position > 0 => {
                // 416 and its like: whole, then.
                writer.restart()?;
                return Err(Failure::Again { error, after: None });
            }
            other => other?,
        };
        let resumes = answer
            .header("content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {position}-")));
        if position > 0 && !(answer.status().as_u16() == 206 && resumes) {
            writer.restart()?;
            if answer.status().as_u16() == 206 {
                let error = anyhow!("{}: got another range than asked for", endpoint.host);
                return Err(Failure::Again { error, after: None });
            }
        }
        while let Some(chunk) = answer.chunk()? {
            writer.write(chunk.as_ref())?;
            self.progress.advanced(item, writer.position());
        }
        if writer.position() < blob.size {
            let (size, got) = (blob.size, writer.position());
            let error = anyhow!("{}: expected {size} bytes, got {got}", blob.digest);
            return Err(Failure::Again { error, after: None });
        }
        Ok(())
    }
}
