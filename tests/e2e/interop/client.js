// What test_interop.py asks of a client, by grpc-js: answers in lines of JSON, one word on a line of input goes on.
//
//   node client.js PROTOS TARGET COMMAND [ARGUMENT…]
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");
const { createInterface } = require("readline");

const [protos, target, command, ...given] = process.argv.slice(2);
const definition = loadSync("v1/inference.proto", { includeDirs: [protos], keepCase: true, longs: Number, defaults: true });
const { Inference } = grpc.loadPackageDefinition(definition).statestream.v1;
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const client = (options = {}) => new Inference(target, grpc.credentials.createInsecure(), options);
const say = (what) => console.log(JSON.stringify(what));
const open = (model) => ({ open: [{ channel: 1, model, protocol_version: 1 }] });

function getModel(inference, name, metadata = new grpc.Metadata(), options = {}) {
  return new Promise((resolve) =>
    inference.GetModel({ name }, metadata, options, (error) => {
      const { code = grpc.status.OK, details = "", metadata = new grpc.Metadata() } = error ?? {};
      resolve({ code, message: details, details: metadata.get("grpc-status-details-bin").length });
    }),
  );
}

// The next messages of a stream, and its status after the last.
function reading(call) {
  const messages = [];
  let wake = () => {};
  let status;
  call.on("data", (message) => (messages.push(message), wake()));
  call.on("status", (found) => ((status = found), wake()));
  call.on("error", () => {});
  return async () => {
    while (!messages.length && !status) await new Promise((resolve) => (wake = resolve));
    return messages.length ? { message: messages.shift() } : { status };
  };
}

const rows = (seqs, floats, value) => ({
  steps: {
    channel: seqs.map(() => 1),
    seq: seqs,
    timestamp_ns: seqs.map((seq) => seq * 1e8),
    columns: [{ name: "x", data: Buffer.from(new Float32Array(seqs.length * floats).fill(value).buffer) }],
  },
});

const commands = {
  async status(name, token) {
    const metadata = new grpc.Metadata();
    if (token) metadata.set("authorization", `Bearer ${token}`);
    metadata.set("x-note-bin", Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
    say(await getModel(client(), name, metadata));
  },

  async gzip() {
    const options = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
    say(await getModel(client(options), "leaky".padEnd(500, "y")));
  },

  async deadline(ms) {
    const inference = client();
    await new Promise((resolve) => inference.waitForReady(Date.now() + 60000, resolve));
    const call = inference.Stream({ deadline: Date.now() + Number(ms) });
    const next = reading(call);
    call.write(open("leaky"));
    const opened = (await next()).message.opened.length;
    say({ opened, code: (await next()).status.code });
  },

  async rows(model, messages, size, floats) {
    const call = client({ "grpc.max_receive_message_length": -1 }).Stream();
    const next = reading(call);
    call.write(open(model));
    const answered = [(await next()).message].flatMap((message) => message.failed);
    call.pause();
    let seq = 0;
    for (let message = 0; message < messages; message++) {
      const seqs = Array.from({ length: Number(size) }, () => ++seq);
      await new Promise((resolve) => call.write(rows(seqs, floats, 1), resolve));
    }
    say({ sent: seq, failed: answered.length });
    await input.next();
    call.resume();
    const seqs = [];
    let bytes = 0;
    while (seqs.length < seq) {
      const { message, status } = await next();
      if (!message) return say({ code: status.code, message: status.details });
      seqs.push(...(message.results?.seq ?? []));
      for (const column of message.results?.columns ?? []) bytes += column.data.length;
    }
    say({ in_order: seqs.every((found, row) => found === row + 1), rows: seqs.length, bytes });
  },

  async idle(keepaliveMs) {
    const inference = client({
      "grpc.keepalive_time_ms": Number(keepaliveMs),
      "grpc.keepalive_timeout_ms": 20000,
      "grpc.keepalive_permit_without_calls": 1,
    });
    const call = inference.Stream();
    const next = reading(call);
    call.write(open("leaky"));
    say({ opened: (await next()).message.opened.length });
    await input.next();
    call.write(rows([1], 2, 1));
    const { results } = (await next()).message;
    say({ verdict: results.verdict, y: [...new Float32Array(new Uint8Array(results.columns[0].data).buffer)] });
    const notices = [];
    for (;;) {
      const { message, status } = await next();
      if (status) {
        say({ code: status.code, notices });
        break;
      }
      notices.push(...message.notices.map((notice) => notice.kind));
    }
    await input.next();
    await new Promise((resolve) => inference.waitForReady(Date.now() + 60000, resolve));
    say(await getModel(inference, "leaky"));
  },
};

commands[command](...given).then(() => process.exit(0));
