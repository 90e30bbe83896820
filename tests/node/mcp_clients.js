// Several MCP clients at once, of the MCP SDK over Streamable HTTP: each calls with values of its own
// and looks whether the answers are its own. Usage: mcp_clients.js URL CLIENTS SECONDS
// Prints a line of JSON with what was done; exits with 1 when anything was not as expected.
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

const [url, clients, seconds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const TURNS = 11; // at least, however busy the machine is: with one call that is cancelled
const until = Date.now() + seconds * 1000;
const done = { clients, calls: 0, progress: 0, sums: 0, cancelled: 0, sessions: 0, faults: [] };

function fault(text) {
    if (done.faults.length < 20) done.faults.push(text);
}

function textOf(result) {
    return result.content?.[0]?.text ?? JSON.stringify(result);
}

async function echo(client, mine) {
    const answer = textOf(await client.callTool({ name: 'echo', arguments: { message: mine } }));
    if (answer !== `Echo: ${mine}`) fault(`${mine} was answered with ${answer}`);
}

async function sum(client, a, b) {
    const answer = textOf(await client.callTool({ name: 'get-sum', arguments: { a, b } }));
    if (!answer.includes(String(a + b))) fault(`${a} + ${b} was answered with ${answer}`);
    done.sums++;
}

// Each has its own number of steps, so progress that is another one's shows.
async function long(client, steps) {
    const seen = [];
    const args = { name: 'trigger-long-running-operation', arguments: { duration: 0.2, steps } };
    const answer = textOf(await client.callTool(args, undefined, { onprogress: (p) => seen.push(p) }));
    if (!answer.includes(`Steps: ${steps}`)) fault(`${steps} steps were answered with ${answer}`);
    if (seen.some((p, i) => p.total !== steps || p.progress !== i + 1)) {
        fault(`progress of ${steps} steps was ${JSON.stringify(seen)}`);
    }
    done.progress += seen.length;
}

async function cancelled(client) {
    const controller = new AbortController();
    const args = { name: 'trigger-long-running-operation', arguments: { duration: 30, steps: 2 } };
    const call = client.callTool(args, undefined, { signal: controller.signal });
    setTimeout(() => controller.abort('not needed'), 20);
    await call.then(() => fault('a cancelled call was answered'), () => { done.cancelled++; });
}

async function visit(number) {
    const client = new Client({ name: `client-${number}`, version: '1' });
    const transport = new StreamableHTTPClientTransport(new URL(url));
    client.onerror = (error) => fault(`client ${number}: ${error}`);
    await client.connect(transport);
    done.sessions++;
    for (let turn = 0; turn < TURNS || Date.now() < until; turn++) {
        const mine = `client ${number} turn ${turn} ${'é'.repeat(number)}`;
        await Promise.all([echo(client, mine), echo(client, `${mine} again`), sum(client, number * 1000, turn),
            turn % 5 === 0 ? long(client, 3 + number) : client.ping()]);
        done.calls += 4;
        if (turn % 20 === 10) await cancelled(client);
    }
    client.onerror = () => {};
    await transport.terminateSession();
    await client.close();
}

Promise.all(Array.from({ length: clients }, (_, i) => visit(i + 1).catch((error) => fault(`client ${i + 1}: ${error}`))))
    .then(() => {
        console.log(JSON.stringify(done));
        process.exit(done.faults.length > 0 ? 1 : 0);
    });
