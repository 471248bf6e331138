// The same code for both module systems: an application that loads both has one copy.
export { Client, classify, encode, usage } from './index.js';
