//! Images: load, save, list, remove.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use linkspan_api::v1::ImageView;
use linkspan_images::Image;
use linkspan_telemetry::chain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{Answer, Response};
use super::{Api, flag, query_all};

/// Bytes between an archive and the wire.
const PIPE: usize = 256 << 10;

pub(crate) fn list(api: &Api) -> Response {
    let views: Vec<ImageView> = api.images.list().iter().map(view).collect();
    Answer::json(&views)
}

fn view(image: &Image) -> ImageView {
    ImageView {
        names: image
            .names
            .iter()
            .map(|name| linkspan_images::familiar(name).to_owned())
            .collect(),
        digest: image.digest.clone(),
        id: image.id.clone(),
        size: image.size,
        created: image.created,
    }
}

pub(crate) async fn load(api: &Api, request: Request<Incoming>) -> Result<Response, Response> {
    let (mut writer, reader) = tokio::io::duplex(PIPE);
    let mut body = request.into_body();
    let upload = tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            // A client that breaks off must not look like the end of the archive.
            let Ok(frame) = frame else { return false };
            let Ok(data) = frame.into_data() else { continue };
            if writer.write_all(&data).await.is_err() {
                // The store has refused or read all that it needs; what follows is of no interest.
                while let Some(Ok(_)) = body.frame().await {}
                return true;
            }
        }
        true
    });
    let loaded = api.images.load(reader).await;
    let whole = upload.await.unwrap_or(false);
    match loaded {
        Ok(_) if !whole => Err(Answer::failure(
            StatusCode::BAD_REQUEST,
            "the archive broke off".to_owned(),
        )),
        Ok(images) => Ok(Answer::json(&images.iter().map(view).collect::<Vec<_>>())),
        Err(error) => Err(Answer::failure(StatusCode::UNPROCESSABLE_ENTITY, chain(&error))),
    }
}

pub(crate) fn save(api: &Api, request: &Request<Incoming>) -> Result<Response, Response> {
    let names = query_all(request, "name");
    if names.is_empty() {
        return Err(Answer::failure(
            StatusCode::BAD_REQUEST,
            "name at least one image to save".to_owned(),
        ));
    }
    if let Some(missing) = names.iter().find(|name| api.images.resolve(name).is_none()) {
        return Err(no_image(missing));
    }
    let (sender, response) = Answer::stream("application/x-tar");
    let (writer, mut reader) = tokio::io::duplex(PIPE);
    let images = api.images.clone();
    let saving = tokio::spawn(async move { images.save(&names, writer).await });
    tokio::spawn(async move {
        let mut buffer = vec![0; PIPE];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    if sender
                        .send(Ok(Bytes::copy_from_slice(&buffer[..read])))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
        // A failure half-way must be seen as one: the body breaks off instead of ending.
        if !matches!(saving.await, Ok(Ok(()))) {
            let _ = sender
                .send(Err(std::io::Error::other(
                    "the archive could not be written to its end",
                )))
                .await;
        }
    });
    Ok(response)
}

pub(crate) async fn remove(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    if api.images.resolve(name).is_none() {
        return Err(no_image(name));
    }
    let in_use: BTreeSet<String> = api
        .view
        .borrow()
        .containers
        .values()
        .map(|seen| seen.record.image_id.clone())
        .collect();
    api.images
        .remove(name, &in_use, flag(request, "force"))
        .await
        .map(|()| Answer::nothing())
        .map_err(|error| Answer::failure(StatusCode::CONFLICT, chain(&error)))
}

fn no_image(name: &str) -> Response {
    let message = format!("no image `{name}`; `linkspan images` lists those in the store");
    Answer::failure(StatusCode::NOT_FOUND, message)
}
