//! Fetching a blob, from where the last attempt broke off.

use anyhow::{Result, anyhow};

use super::super::progress::Item;
use super::Registry;
use super::endpoint::Endpoint;
use super::retry::{Failure, Tries};
use crate::oci::{Descriptor, ImageRef, Reference};
use crate::store::{BlobWriter, Store};

/// How much must have come for a broken connection to be forgiven, in bytes.
const PROGRESS: u64 = 1 << 20;

impl Registry {
    /// Fetches a blob into the store.
    pub(super) fn blob(
        &self,
        endpoint: &Endpoint,
        image: &ImageRef,
        blob: &Descriptor,
        store: &Store,
    ) -> Result<()> {
        let Some(mut writer) = store.download(blob)? else {
            return Ok(());
        };
        let item = Item::fetch(&Reference::Image(image.clone()), blob);
        self.progress.started(&item);
        let mut tries = Tries::new(self.options.attempts, self.options.backoff);
        loop {
            let before = writer.position();
            match self.attempt(endpoint, image, blob, &mut writer, &item) {
                Ok(()) => break,
                Err(failure) => {
                    if writer.position() > before + PROGRESS {
                        tries.reset();
                    }
                    if let Failure::Again { error, .. } = &failure {
                        self.progress.note(&format!("blob {}: {error:#}", blob.digest.short()));
                    }
                    tries.wait(failure)?;
                }
            }
        }
        writer.finish()?;
        self.progress.finished(&item);
        Ok(())
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
