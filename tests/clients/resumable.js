// Uploads a video with tus-js-client, which goes on by itself after whatever cuts it off.
// The arguments: the address of the sidecar, the video, and how many bytes a piece may have (0: no bound).
import { createReadStream, statSync } from "node:fs";
import * as tus from "tus-js-client";

const [baseUrl, video, pieceSize] = process.argv.slice(2);
const upload = new tus.Upload(createReadStream(video), {
  endpoint: `${baseUrl}/v1/uploads`,
  uploadSize: statSync(video).size,
  chunkSize: Number(pieceSize) || Infinity,
  retryDelays: Array(40).fill(250),
  metadata: { filename: "large.mp4", filetype: "video/mp4", frame_stride: "5" },
  onError: (error) => {
    console.error(error);
    process.exitCode = 1;
  },
  onSuccess: () => console.log(upload.url.split("/").pop()),
});
upload.start();
