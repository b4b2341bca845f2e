// What a video shows just now, and what happens to it.

/**
 * The time of the picture that a video shows just now; null where a browser does not tell it.
 * @param {HTMLVideoElement} video
 */
export function pictureTime(video) {
  if (!("VideoFrame" in window)) return null; // as on a page that did not come by HTTPS
  try {
    const picture = new VideoFrame(video);
    const time = picture.timestamp / 1e6;
    picture.close();
    return time;
  } catch {
    return null;
  }
}

/**
 * @param {EventTarget} target
 * @param {string} name of an event
 * @returns {Promise<void>}
 */
export const happens = (target, name) => new Promise((done) => { target.addEventListener(name, () => done(), { once: true }); });
