// Submits a video, follows its job and reads the result, by the types that openapi-typescript makes.
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Job = components["schemas"]["Job"];

const [baseUrl, video] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl });

async function submit(): Promise<string> {
  const bytes = await readFile(video);
  const { data, error } = await client.POST("/v1/video/submit", {
    body: { file: video, pipeline_id: "ocr_only", frame_stride: 2 },
    bodySerializer: (body) => {
      const form = new FormData();
      form.append("pipeline_id", String(body.pipeline_id));
      form.append("frame_stride", String(body.frame_stride));
      form.append("file", new Blob([bytes], { type: "video/mp4" }), "clip.mp4");
      return form;
    },
  });
  if (error) throw new Error(error.detail);
  return data.job_id;
}

async function follow(job_id: string): Promise<Job> {
  for (;;) {
    const { data, error } = await client.GET("/v1/video/status/{job_id}", {
      params: { path: { job_id }, query: { wait: 10 } },
    });
    if (error) throw new Error(error.detail);
    if (data.progress === 1) return data;
  }
}

const job_id = await submit();
const job = await follow(job_id);
const result = await client.GET("/v1/video/results/{job_id}", { params: { path: { job_id } } });
if (result.error) throw new Error(result.error.detail);
const page = await client.GET("/v1/jobs", { params: { query: { status: "completed", limit: 1 } } });
const nobody = await client.GET("/v1/video/status/{job_id}", { params: { path: { job_id: "nobody" } } });

console.log(JSON.stringify({
  job_id,
  status: job.status,
  frames: result.data.results.length,
  texts: [...new Set(result.data.results.flatMap((frame) => (frame.result.text_blocks ?? []).map((block) => block.text)))],
  newest: page.data?.jobs[0]?.job_id,
  refusal: nobody.error?.type,
}));
