//! Networks, pools and the doctor.

use http::Method;

use super::target::Target;
use super::{Client, ClientError};
use crate::v1::{
    ConnectRequest, DisconnectRequest, FirewallReport, NetworkDetail, NetworkReport, NetworkRequest,
    NetworkView, PoolView,
};

impl Client {
    /// `GET /v1/networks`.
    pub async fn networks(&self) -> Result<Vec<NetworkView>, ClientError> {
        self.fetch(Target::new("networks")).await
    }

    /// `GET /v1/networks/{name}`.
    pub async fn network(&self, name: &str) -> Result<NetworkDetail, ClientError> {
        self.fetch(Target::new("networks").segment(name)).await
    }

    /// `POST /v1/networks`.
    pub async fn create_network(&self, request: &NetworkRequest) -> Result<NetworkView, ClientError> {
        self.json(Method::POST, Target::new("networks"), request).await
    }

    /// `DELETE /v1/networks/{name}`.
    pub async fn remove_network(&self, name: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, Target::new("networks").segment(name))
            .await
    }

    /// `POST /v1/networks/prune`: removes those made by hand that nothing uses.
    pub async fn prune_networks(&self) -> Result<Vec<String>, ClientError> {
        self.call(Method::POST, Target::new("networks").segment("prune"))
            .await
    }

    /// `POST /v1/networks/{name}/connect`.
    pub async fn connect_network(&self, name: &str, request: &ConnectRequest) -> Result<(), ClientError> {
        let target = Target::new("networks").segment(name).segment("connect");
        self.post(target, request).await
    }

    /// `POST /v1/networks/{name}/disconnect`.
    pub async fn disconnect_network(
        &self,
        name: &str,
        request: &DisconnectRequest,
    ) -> Result<(), ClientError> {
        let target = Target::new("networks").segment(name).segment("disconnect");
        self.post(target, request).await
    }

    /// `GET /v1/pools`.
    pub async fn pools(&self) -> Result<Vec<PoolView>, ClientError> {
        self.fetch(Target::new("pools")).await
    }

    /// `GET /v1/doctor/network`.
    pub async fn network_report(&self) -> Result<NetworkReport, ClientError> {
        self.fetch(Target::new("doctor").segment("network")).await
    }

    /// `GET /v1/doctor/firewall`.
    pub async fn firewall_report(&self) -> Result<FirewallReport, ClientError> {
        self.fetch(Target::new("doctor").segment("firewall")).await
    }
}
