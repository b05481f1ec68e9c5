import { defineConfig } from 'vite';

// The origins the sandbox lets in: http://127.0.0.1:5173 (dev) and http://127.0.0.1:4173 (preview).
export default defineConfig({
  base: './',
  server: { host: '127.0.0.1', port: 5173, strictPort: true },
  preview: { host: '127.0.0.1', port: 4173, strictPort: true },
});
