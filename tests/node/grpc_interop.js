'use strict';
/* @grpc/grpc-js as client or server of the gRPC interop cases: see tests/flows/harness/grpc_interop.py,
 * which has the cases, says what the messages mean, and holds the other ends of stdin and stdout.
 * The process ends with its stdin. */
const crypto = require('crypto');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');

const SERVICE = 'weir.test.Interop';
const INITIAL = 'x-grpc-test-echo-initial';
const TRAILING = 'x-grpc-test-echo-trailing-bin';
const raw = (bytes) => bytes;

function say(what) {
  process.stdout.write(JSON.stringify(what) + '\n');
}

/* CLOCK_MONOTONIC in seconds, as python3's time.monotonic(). */
function now() {
  return Number(process.hrtime.bigint()) / 1e9;
}

/* Server. */

function method(name, requestStream, responseStream) {
  return {
    path: `/${SERVICE}/${name}`, requestStream, responseStream,
    requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw,
  };
}

/* Metadata goes back as it came; the end of the call is told, whoever has ended it. Returns the
 * trailing part. */
function begin(call) {
  const initial = new grpc.Metadata();
  const trailing = new grpc.Metadata();

  call.metadata.get(INITIAL).forEach((value) => initial.set(INITIAL, value));
  call.metadata.get(TRAILING).forEach((value) => trailing.set(TRAILING, value));
  call.sendMetadata(initial);
  call.on('cancelled', () => say({ ended: now() }));
  return trailing;
}

/* What a message asks for: {reply}, {error} or {} for none. */
function obey(data) {
  const all = data.toString();
  const [word, rest] = all.split('\n', 1)[0].split(' ');

  if (word === 'size') return { reply: Buffer.alloc(Number(rest)) };
  if (word === 'sleep') return {};
  if (word !== 'status') return { reply: data };
  return { error: { code: Number(rest), details: all.replace(/^status \d+ /, '').replace(/\n$/, '') } };
}

const handlers = {
  Unary(call, callback) {
    const trailing = begin(call);
    const { reply, error } = obey(call.request);

    if (error) callback({ ...error, metadata: trailing });
    else if (reply) callback(null, reply, trailing);
  },
  Collect(call, callback) {
    const trailing = begin(call);
    let sum = 0;

    call.on('data', (data) => { sum += data.length; });
    call.on('end', () => callback(null, Buffer.from(String(sum)), trailing));
    call.on('error', () => {});
  },
  Spread(call) {
    const trailing = begin(call);

    for (const size of call.request.toString().split('\n', 1)[0].split(','))
      call.write(Buffer.alloc(Number(size)));
    call.end(trailing);
  },
  Talk(call) {
    const trailing = begin(call);

    call.on('data', (data) => {
      const { reply, error } = obey(data);

      if (error) call.emit('error', { ...error, metadata: trailing });
      else if (reply) call.write(reply);
    });
    call.on('end', () => call.end(trailing));
    call.on('error', () => {});
  },
};

function serve() {
  const server = new grpc.Server();

  server.addService({
    Unary: method('Unary', false, false),
    Collect: method('Collect', true, false),
    Spread: method('Spread', false, true),
    Talk: method('Talk', true, true),
  }, handlers);
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    say({ port });
  });
}

/* Client. */

function message([line, size]) {
  const head = Buffer.from(line && line + '\n');

  return Buffer.concat([head, Buffer.alloc(Math.max(0, size - head.length))]);
}

function known(metadata) {
  const pairs = [];

  for (const key of [INITIAL, TRAILING])
    for (const value of metadata.get(key))
      pairs.push([key, typeof value === 'string' ? value : value.toString('hex')]);
  return pairs;
}

/* Starts the call of a case; done(outcome) is called once. */
function run(client, test, done) {
  const outcome = { replies: [], initial: [] };
  const metadata = new grpc.Metadata();
  const path = `/${test.service || SERVICE}/${test.method}`;
  const options = { deadline: Date.now() + (test.timeout_ms || 60000) };
  const sending = test.send.map(message);
  let call;

  for (const [key, value] of test.metadata || [])
    metadata.set(key, key.endsWith('-bin') ? Buffer.from(value, 'hex') : value);

  function cancel() {
    outcome.cancelled_at = now();
    call.cancel();
  }
  function next() {
    if (sending.length > 0) call.write(sending.shift());
    else if (!test.is_open) call.end();
  }
  function hear(reply) {
    outcome.replies.push([reply.length, crypto.createHash('sha1').update(reply).digest('hex')]);
    if (test.cancel === 'first') cancel();
    else if (test.lockstep) next();
  }
  const hearOne = (error, reply) => { if (!error) hear(reply); };

  if (test.kind === 'unary_unary')
    call = client.makeUnaryRequest(path, raw, raw, sending[0], metadata, options, hearOne);
  else if (test.kind === 'stream_unary')
    call = client.makeClientStreamRequest(path, raw, raw, metadata, options, hearOne);
  else if (test.kind === 'unary_stream')
    call = client.makeServerStreamRequest(path, raw, raw, sending[0], metadata, options);
  else
    call = client.makeBidiStreamRequest(path, raw, raw, metadata, options);
  call.on('metadata', (initial) => {
    outcome.initial = known(initial);
    if (test.cancel === 'begin') cancel();
  });
  call.on('data', hear);
  call.on('error', () => {});
  call.on('status', (status) => {
    /* The callback of a unary reply comes behind the status. */
    setImmediate(() => done({
      ...outcome, code: status.code, details: status.details, trailing: known(status.metadata),
    }));
  });
  if (test.kind.startsWith('stream')) {
    if (test.lockstep) next();
    else do next(); while (sending.length > 0 || (!test.is_open && !call.writableEnded));
  }
}

function listen() {
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const question = JSON.parse(line);
    const client = new grpc.Client(question.target, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1, 'grpc.enable_http_proxy': 0, 'grpc.enable_retries': 0,
    });

    try {
      run(client, question.case, (outcome) => { client.close(); say(outcome); });
    } catch (failure) {
      say({ failure: String(failure.stack) });
    }
  }).on('close', () => process.exit(0));
}

if (process.argv[2] === 'server') {
  serve();
  process.stdin.on('end', () => process.exit(0)).resume();
} else {
  listen();
}
