import assert from 'node:assert/strict';
import test from 'node:test';

import { usage } from 'llmstatsd-client';
import { badInputs } from './support.mjs';

const CASES = {
  'OpenAI chat completions': [
    {
      object: 'chat.completion',
      usage: {
        prompt_tokens: 1117,
        completion_tokens: 46,
        total_tokens: 1163,
        prompt_tokens_details: { cached_tokens: 1024 },
      },
    },
    { tokens: 1163, promptTokens: 1117, completionTokens: 46, cachedTokens: 1024 },
  ],
  'OpenAI embeddings': [
    { object: 'list', usage: { prompt_tokens: 8, total_tokens: 8 } },
    { tokens: 8, promptTokens: 8 },
  ],
  'OpenAI responses': [
    {
      object: 'response',
      usage: {
        input_tokens: 36,
        input_tokens_details: { cached_tokens: 30 },
        output_tokens: 87,
        total_tokens: 123,
      },
    },
    { tokens: 123, promptTokens: 36, completionTokens: 87, cachedTokens: 30 },
  ],
  'the last event of a streamed OpenAI response': [
    {
      type: 'response.completed',
      response: { usage: { input_tokens: 3, output_tokens: 4, total_tokens: 7 } },
    },
    { tokens: 7, promptTokens: 3, completionTokens: 4 },
  ],
  'a chunk of OpenAI without usage': [{ object: 'chat.completion.chunk', usage: null }, {}],
  'Anthropic: the cache is added to the prompt': [
    {
      type: 'message',
      usage: {
        input_tokens: 50,
        cache_read_input_tokens: 1000,
        cache_creation_input_tokens: 200,
        output_tokens: 30,
      },
    },
    { promptTokens: 1250, completionTokens: 30, cachedTokens: 1000 },
  ],
  'the first event of an Anthropic stream': [
    { type: 'message_start', message: { usage: { input_tokens: 25, output_tokens: 1 } } },
    { promptTokens: 25, completionTokens: 1 },
  ],
  'the last usage of an Anthropic stream': [
    { type: 'message_delta', usage: { input_tokens: null, output_tokens: 15 } },
    { completionTokens: 15 },
  ],
  'Ollama chat': [
    {
      model: 'llama3',
      message: { role: 'assistant', content: '' },
      done: true,
      total_duration: 4_883_583_458,
      load_duration: 1_334_875,
      prompt_eval_count: 26,
      prompt_eval_duration: 342_546_000,
      eval_count: 200,
      eval_duration: 4_000_000_000,
    },
    {
      promptTokens: 26,
      completionTokens: 200,
      loadDurationSeconds: 0.001334875,
      promptEvalDurationSeconds: 0.342546,
      totalDurationSeconds: 4.883583458,
      timePerOutputTokenSeconds: 0.02,
    },
  ],
  'Ollama leaves out what is zero': [
    {
      model: 'llama3',
      response: '',
      done: true,
      total_duration: 5e9,
      load_duration: 0,
      prompt_eval_count: 0,
      eval_count: 0,
      eval_duration: 0,
    },
    { totalDurationSeconds: 5 },
  ],
  'a chunk of Ollama before the last': [{ model: 'llama3', response: 'a', done: false }, {}],
  'amounts that are none': [
    { usage: { prompt_tokens: '5', completion_tokens: -1, total_tokens: 1.5 } },
    {},
  ],
  'a text': ['usage', {}],
  nothing: [undefined, {}],
};

test('the usage in an answer', async (t) => {
  for (const [name, [response, fields]] of Object.entries(CASES)) {
    await t.test(name, () => assert.deepEqual(usage(response), fields));
  }
});

test('anything may be looked at for usage', () => {
  for (const [name, input] of Object.entries(badInputs())) {
    assert.deepEqual(usage(input), {}, name);
    assert.deepEqual(usage({ usage: input }), {}, name);
  }
});
