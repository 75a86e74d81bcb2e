// SPDX-License-Identifier: MIT
"use strict";

const orders = new Map([
  [7, { id: 7, items: [{ name: "kettle", cents: 2490 }, { name: "cup", cents: 790 }] }],
  [8, { id: 8, items: [{ name: "teapot", cents: 3150 }] }],
]);

function findOrder(id) {
  return orders.get(id);
}

function total(order) {
  return order.items.reduce((sum, item) => sum + item.cents, 0) / 100;
}

module.exports = { findOrder, total };
