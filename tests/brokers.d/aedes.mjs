// SPDX-License-Identifier: ISC
// An aedes broker with TLS and client certificates: node aedes.mjs PORT FOLDER-OF-CERTIFICATES
import fs from 'node:fs'
import tls from 'node:tls'
import { Aedes } from 'aedes'

const [port, certificates] = process.argv.slice(2)
const read = (name) => fs.readFileSync(`${certificates}/${name}`)
const broker = await Aedes.createBroker()
const server = tls.createServer(
  { cert: read('cert.pem'), key: read('private.key'), ca: read('ca.crt'), requestCert: true, rejectUnauthorized: true },
  broker.handle)

broker.on('clientError', (client, error) => console.error(`${client?.id}: ${error.message}`))
broker.on('connectionError', (client, error) => console.error(`${client?.id}: ${error.message}`))
server.listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => process.exit(0))
