import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

/** TypeScript's compiler, from node_modules or NODE_PATH, or undefined. */
function compiler() {
  try {
    const manifest = createRequire(import.meta.url).resolve('typescript/package.json');
    return join(dirname(manifest), 'bin', 'tsc');
  } catch {
    return undefined;
  }
}

test('the types fit what applications write, in both module systems', async (t) => {
  const tsc = compiler();
  if (tsc === undefined && !process.env.REQUIRE_TOOLS) {
    return t.skip('typescript is missing: run npm install');
  }
  assert.ok(tsc, 'typescript is missing: run npm install');
  const project = fileURLToPath(new URL('types', import.meta.url));
  const output = await new Promise((resolve) => {
    execFile(process.execPath, [tsc, '--project', project], (error, stdout, stderr) =>
      resolve(`${error ? error.message : ''}${stdout}${stderr}`),
    );
  });
  assert.equal(output, '');
});
